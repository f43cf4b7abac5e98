//! The same stories, told to a real broker that runs already:
//!
//! ```sh
//! TIDEMILL_BROKER=127.0.0.1:9092 TIDEMILL_TLS=folder TIDEMILL_RESTART='./kill-and-start' \
//!     cargo test -p tidemill-client --test stories real_broker -- --ignored --nocapture
//! ```
//!
//! The folder holds `ca.pem`, `client.pem` and `client-key.pem`; the broker has none of the stories' topics. The command
//! kills the broker and starts it again, and returns when it has been started; without one nothing is restarted.

use std::path::PathBuf;

use tidemill_client::{Config, Tls};

use crate::dice::seed;
use crate::harness::{BoxFuture, Harness};
use crate::{assert_all_delivered, consuming, producing};

struct RealBroker {
    config: Config,
    restart: Option<String>,
}

impl RealBroker {
    fn from_environment() -> RealBroker {
        let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let folder = PathBuf::from(variable("TIDEMILL_TLS"));
        let tls =
            Tls::from_files(folder.join("ca.pem"), folder.join("client.pem"), folder.join("client-key.pem"));
        let config = Config::new([variable("TIDEMILL_BROKER")], tls.unwrap());
        RealBroker { config, restart: std::env::var("TIDEMILL_RESTART").ok() }
    }
}

impl Harness for RealBroker {
    fn config(&self) -> Config {
        self.config.clone()
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let command = self.restart.as_ref().expect("TIDEMILL_RESTART is set");
            let status = tokio::process::Command::new("sh").args(["-c", command]).status().await.unwrap();
            assert!(status.success(), "{command}: {status}");
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a broker"]
async fn every_story() {
    let broker = RealBroker::from_environment();
    let seed = seed("every_story");
    consuming::administration(&broker).await;
    consuming::seeks(&broker).await;
    consuming::out_of_range(&broker).await;
    consuming::cuts(&broker).await;
    producing::dropped_futures(&broker).await;
    producing::codecs(&broker).await;
    producing::unacknowledged(&broker).await;
    producing::partitioning(&broker).await;
    assert_all_delivered(producing::cuts(&broker, 100, seed).await);
    if broker.restart.is_some() {
        assert_all_delivered(producing::restarts(&broker, 20, seed).await);
    }
}
