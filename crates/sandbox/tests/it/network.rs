//! Whatever a sandbox dials arrives at the server, and nowhere else.

use rclaude_sandbox::{
    local::original_destination,
    provider::{Outbound as _, SandboxProvider as _},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::Rig;

#[tokio::test]
async fn connections_arrive_with_the_address_they_were_meant_for() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let sockets = rig.provider.outbound().unwrap().sockets(&sandbox).await.unwrap();
    for (host, port, listener) in
        [("203.0.113.7", 4444, 0), ("100.64.0.1", 80, 0), ("2001:db8::7", 443, 1)]
    {
        let line = format!("exec 3<>/dev/tcp/{host}/{port}; echo hello >&3; head -c 2 <&3");
        let dialled = rig.begin(&sandbox, 1000, &["bash", "-c", &line]);
        let (mut connection, _) = sockets.tcp[listener].accept().await.unwrap();
        let meant = original_destination(&connection).unwrap();
        assert_eq!((meant.ip().to_string(), meant.port()), (host.to_owned(), port));
        let mut received = [0; 5];
        connection.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"hello");
        connection.write_all(b"ok").await.unwrap();
        assert_eq!(dialled.await.unwrap().out, "ok");
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn a_connection_made_while_the_server_is_away_waits() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let line = "exec 3<>/dev/tcp/198.51.100.1/9999; head -c 4 <&3";
    let dialled = rig.begin(&sandbox, 1000, &["bash", "-c", line]);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let later = rig.reopened().await;
    let sockets = later.sockets(&sandbox).await.unwrap();
    let (mut connection, _) = sockets.tcp[0].accept().await.unwrap();
    connection.write_all(b"late").await.unwrap();
    assert_eq!(dialled.await.unwrap().out, "late");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn questions_of_names_arrive_and_answers_return_from_the_address_that_was_asked() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let sockets = rig.provider.sockets(&sandbox).await.unwrap();
    for server in ["100.64.0.2", "8.8.8.8"] {
        // A connected socket takes answers only from where it asked.
        let line = format!("exec 3<>/dev/udp/{server}/53; echo question >&3; head -n 1 <&3");
        let asked = rig.begin(&sandbox, 1000, &["bash", "-c", &line]);
        let mut question = [0; 64];
        let receiving = sockets.dns.iter().map(|socket| {
            Box::pin(async move {
                socket.readable().await.unwrap();
                socket
            })
        });
        let (socket, ..) = futures::future::select_all(receiving).await;
        let (length, from) = socket.recv_from(&mut question).await.unwrap();
        assert_eq!(&question[..length], b"question\n");
        socket.send_to(b"answer\n", from).await.unwrap();
        assert_eq!(asked.await.unwrap().out, "answer", "{server}");
    }
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn services_in_a_sandbox_are_its_own_and_the_hosts_are_not_reached() {
    let rig = Rig::new().await;
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let sandbox = rig.sandbox().await;
    let line = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached");
    let outcome = rig.run(&sandbox, 1000, &["bash", "-c", &line]).await;
    assert!(outcome.out.contains("refused"), "{outcome:?}");
    host.set_nonblocking(true).unwrap();
    assert_eq!(host.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}
