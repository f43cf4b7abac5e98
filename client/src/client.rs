//! A client of a cluster: what its producers, consumers and admins share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_protocol::api::{Request, Response};

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::config::{Address, Config};
use crate::connection::{Link, Live, Network};
use crate::consumer::ConsumerBuilder;
use crate::error::Error;
use crate::metadata::Metadata;
use crate::producer::ProducerBuilder;
use crate::runtime;
use crate::transport::SocketBuffers;

/// A client of a cluster. Cheap to clone; all clones share one connection to each broker.
///
/// ```no_run
/// # async fn example() -> Result<(), tidemill_client::Error> {
/// use tidemill_client::{Client, Config, Tls};
///
/// let tls = Tls::from_files("ca.pem", "client.pem", "client-key.pem")?;
/// let client = Client::connect(Config::new(["localhost:9642"], tls)).await?;
/// for topic in client.admin().topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// Connects to the first broker that answers. From then on connections are made, and made again, as they are
    /// needed.
    ///
    /// # Errors
    /// When the configuration is wrong, or when none of the brokers answers; the message is the last one's.
    pub async fn connect(config: Config) -> Result<Client, Error> {
        let bootstrap: Vec<Address> =
            config.brokers.iter().map(|broker| broker.parse()).collect::<Result<_, _>>()?;
        if bootstrap.is_empty() {
            return Err(Error::impossible("no broker's address is given"));
        }
        let core = Arc::new(Core {
            network: Network::new(&config)?,
            config,
            bootstrap,
            links: Mutex::default(),
            metadata: Metadata::default(),
            produce_streams: AtomicU64::new(runtime::chance() % 1_024),
            is_closed: AtomicBool::new(false),
        });
        core.any().await?;
        Ok(Client { core })
    }

    /// Begins to describe a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.core.clone())
    }

    /// Begins to describe a consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.core.clone())
    }

    /// Topics and offsets: asked for, made, described.
    pub fn admin(&self) -> Admin {
        Admin::new(self.core.clone())
    }

    /// What the operating system gave the sockets in use, one for each family of addresses.
    pub fn socket_buffers(&self) -> Vec<SocketBuffers> {
        self.core.network.buffers()
    }

    /// Closes all connections. Close producers before: what they still hold is given up. Consumers end with an error.
    pub async fn close(self) {
        self.core.is_closed.store(true, Ordering::Release);
        self.core.network.close().await;
    }

    /// Cuts all connections, as a failing network would; they are made again when needed. For tests.
    #[doc(hidden)]
    pub fn sever(&self) {
        let links = self.core.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.values().filter_map(|link| link.current()).for_each(|live| live.close("severed"));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("brokers", &self.core.config.brokers).finish_non_exhaustive()
    }
}

/// What everything that belongs to one client shares.
pub(crate) struct Core {
    pub(crate) config: Config,
    network: Network,
    bootstrap: Vec<Address>,
    links: Mutex<BTreeMap<Address, Arc<Link>>>,
    pub(crate) metadata: Metadata,
    produce_streams: AtomicU64,
    is_closed: AtomicBool,
}

impl Core {
    /// Whether the client was closed, and nobody will be reached any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The number of the next stream for produce requests: partitions take them in turn.
    pub(crate) fn next_produce_stream(&self) -> u64 {
        self.produce_streams.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection to the broker at an address.
    ///
    /// # Errors
    /// When it cannot be reached just now.
    pub(crate) async fn live(&self, address: &Address) -> Result<Arc<Live>, Error> {
        if self.is_closed() {
            return Err(Error::impossible("the client is closed"));
        }
        self.link(address).live(&self.network, &self.config).await
    }

    fn link(&self, address: &Address) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.entry(address.clone()).or_insert_with(|| Arc::new(Link::new(address.clone()))).clone()
    }

    /// A connection to some broker: one that is there, or else the first that can be made.
    ///
    /// # Errors
    /// The last broker's, when none can be reached.
    pub(crate) async fn any(&self) -> Result<Arc<Live>, Error> {
        let known = self.metadata.brokers();
        let addresses: Vec<_> = known.iter().chain(&self.bootstrap).collect();
        if let Some(live) = addresses.iter().find_map(|address| self.link(address).current()) {
            return Ok(live);
        }
        let mut last = Error::unsent("no broker is known");
        for address in addresses {
            match self.live(address).await {
                Ok(live) => return Ok(live),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks some broker, again and again until the request's time is over. Only for what may be asked twice.
    ///
    /// # Errors
    /// The last one, when the time is over, or when it is no use to ask again.
    pub(crate) async fn ask_any(&self, request: &Request) -> Result<Response, Error> {
        let mut patience = Patience::new(self.config.request_timeout);
        loop {
            let answer = match self.any().await {
                Ok(live) => live.call(request, Duration::ZERO).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if error.retriable => patience.wait(error).await?,
                answer => return answer,
            }
        }
    }
}

/// Trying again, with growing pauses, until some time is over.
pub(crate) struct Patience {
    until: runtime::Instant,
    backoff: Backoff,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Patience {
        Patience { until: runtime::now() + limit, backoff: Backoff::new() }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The one given, when the time is over.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let pause = self.backoff.next();
        if runtime::now() + pause >= self.until {
            return Err(error);
        }
        runtime::sleep(pause).await;
        Ok(())
    }
}
