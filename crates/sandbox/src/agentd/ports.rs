//! Ports: what listens, and connections to it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Method};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::Incoming;
use rclaude_types::{Port, agentd::PortList};

use super::{Client, Error, Result, connection::empty, files::streamed};

/// What a program in the sandbox sends over one connection. It ends as the program's side does; a
/// connection that breaks ends in an error. Dropping it drops the connection.
#[derive(Debug)]
pub struct PortStream(BodyDataStream<Incoming>);

impl Stream for PortStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map_err(Error::from)
    }
}

impl Client {
    /// TCP ports on which programs in the sandbox listen, by number.
    pub async fn ports(&self) -> Result<Vec<Port>> {
        let list: PortList = self.json(Method::GET, "/v1/ports", empty()).await?;
        Ok(list.data)
    }

    /// Connects to a port of the sandbox's own loopback address and sends what `outgoing` gives;
    /// its end ends our side of the connection, its error breaks it. Refused with `port_closed`
    /// where nothing listens.
    pub async fn connect_port(
        &self,
        port: u16,
        outgoing: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<PortStream> {
        let path = format!("/v1/ports/{port}/connect");
        let response = self.send(Method::POST, &path, HeaderMap::new(), streamed(outgoing)).await?;
        Ok(PortStream(response.into_body().into_data_stream()))
    }
}
