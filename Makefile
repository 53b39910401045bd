# Two commands matter: `make demo` and `make test`. Both install what they need.

.PHONY: demo test chaos release bench check setup clean

demo: ## Set up, build, and do the main job before your eyes
	@scripts/demo.sh

test: ## Set up and pass every test
	@scripts/test.sh

chaos: ## Kill everything, again and again, and prove that nothing is lost (CHAOS_MINUTES=60)
	@scripts/chaos.sh

release: ## Build the one file: target/release/rclaude
	@scripts/setup.sh build
	cargo build --release -p rclaude
	@ls -lh target/release/rclaude

bench: ## Measure, beside peers and physical limits
	@scripts/bench.sh

check: ## What a change must pass before it is looked at: format, lints, docs
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

setup: ## Install what building, testing and measuring need
	@scripts/setup.sh build test

clean:
	cargo clean
	rm -rf .tools .rclaude
