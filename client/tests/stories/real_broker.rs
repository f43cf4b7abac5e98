//! The same stories, told to a real broker: a process that is killed and started again.
//!
//! The `tidemill` command must be built in the profile of the tests (`cargo build --release` for `--release`), as a
//! test of the whole workspace does by itself.

use std::path::PathBuf;

use parking_lot::Mutex;
use tempfile::TempDir;
use tidemill_client::{Config, Tls};
use xtask::process::Broker;

use crate::dice::seed;
use crate::harness::{BoxFuture, Harness};
use crate::{assert_all_delivered, consuming, producing};

struct RealBroker {
    config: Config,
    broker: Mutex<Broker>,
    _folder: TempDir,
}

/// The command lies beside the folder that this test lies in.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("tidemill");
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

impl RealBroker {
    fn start() -> RealBroker {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(&program(), folder.path(), &[]).unwrap();
        let files = folder.path().join("data/client");
        let tls =
            Tls::from_files(files.join("ca.pem"), files.join("client.pem"), files.join("client-key.pem"));
        let config = Config::new([broker.address("quic").unwrap().to_owned()], tls.unwrap());
        RealBroker { config, broker: Mutex::new(broker), _folder: folder }
    }
}

impl Harness for RealBroker {
    fn config(&self) -> Config {
        self.config.clone()
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It takes half a second and is meant to be felt: the producer's threads go on meanwhile.
            tokio::task::block_in_place(|| {
                let mut broker = self.broker.lock();
                broker.kill().unwrap();
                broker.restart().unwrap();
            });
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_story() {
    let broker = RealBroker::start();
    consuming::administration(&broker).await;
    consuming::seeks(&broker).await;
    consuming::out_of_range(&broker).await;
    consuming::cuts(&broker).await;
    producing::dropped_futures(&broker).await;
    producing::codecs(&broker).await;
    producing::unacknowledged(&broker).await;
    producing::partitioning(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cuts_with_a_thousand_under_way() {
    let seed = seed("real_broker::a_hundred_cuts_with_a_thousand_under_way");
    assert_all_delivered(producing::cuts(&RealBroker::start(), 100, seed).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_restarts() {
    let seed = seed("real_broker::twenty_restarts");
    assert_all_delivered(producing::restarts(&RealBroker::start(), 20, seed).await);
}
