//! A door with a broker behind it: a table is walked through it, row by row.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tidemill_protocol::api::messages::fetch_request::{FetchPartition, FetchTopic};
use tidemill_protocol::api::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidemill_protocol::api::messages::{FetchRequest, ProduceRequest};
use tidemill_protocol::api::{Request, Response};
use tidemill_protocol::batch::{BatchBuilder, split};
use tidemill_protocol::codec::Codec;
use xtask::kafka::{Connection, name};
use xtask::process::{Broker, counter};

/// A row: what it is, what is sent, what must come back. Of what comes back all parts between ` | ` must be part.
pub type Row<I> = (&'static str, I, &'static str);

/// The topic that shows that the broker still serves.
const ALIVE: &str = "alive";
/// What a broker may have in use after the last row that it had not before the first.
const MORE_MEMORY: u64 = 64 << 20;
const MORE_FILES: usize = 8;
const MORE_THREADS: usize = 8;
/// How long connections may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a process has in use.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    memory: u64,
    files: usize,
    threads: usize,
    connections: f64,
}

/// A door, and the broker behind it.
pub struct Door {
    pub broker: Broker,
    pub folder: TempDir,
    process: u32,
    before: Footprint,
    alive: RefCell<Connection>,
    served: Cell<i64>,
    wrong: RefCell<Vec<String>>,
    rows: Cell<usize>,
}

impl Door {
    /// Starts a broker with two shards, and with a topic `orders` of four partitions.
    pub fn open(settings: &[&str]) -> Door {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            [&["listen.tcp=127.0.0.1:0", "cluster.shards=2", "log.filter=warn"], settings].concat();
        let program = Path::new(env!("CARGO_BIN_EXE_tidemill"));
        let broker = Broker::start(program, folder.path(), &settings).unwrap();
        broker.run(&["topic", "create", ALIVE]).unwrap();
        broker.run(&["topic", "create", "orders", "--partitions", "4"]).unwrap();
        let alive = Connection::to(broker.address("tcp").unwrap()).unwrap();
        let process = broker.id().unwrap();
        let nothing = Footprint { memory: 0, files: 0, threads: 0, connections: 0.0 };
        let mut door = Door {
            broker,
            folder,
            process,
            before: nothing,
            alive: RefCell::new(alive),
            served: Cell::new(0),
            wrong: RefCell::default(),
            rows: Cell::new(0),
        };
        // Caches fill and threads start with the first work.
        (0..100).for_each(|_| door.still_serves("before the first row"));
        door.before = door.footprint();
        door
    }

    pub fn tcp(&self) -> &str {
        self.broker.address("tcp").unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Walks a table.
    pub fn walk<I>(&self, rows: impl IntoIterator<Item = Row<I>>, mut send: impl FnMut(I) -> String) {
        for (name, input, wanted) in rows {
            self.row(name, &send(input), wanted);
        }
    }

    /// Notes what came back, and looks whether the broker still serves.
    pub fn row(&self, name: &str, told: &str, wanted: &str) {
        self.rows.set(self.rows.get() + 1);
        if let Some(missing) = wanted.split(" | ").find(|part| !told.contains(part)) {
            self.wrong.borrow_mut().push(format!("{name}: wanted {missing:?}, and was told: {told}"));
        }
        self.still_serves(name);
    }

    /// Produces a record and fetches it, on a connection of its own.
    fn still_serves(&self, after: &str) {
        let number = self.served.get();
        let mut batch = BatchBuilder::new(Codec::None);
        batch.push(number, None, Some(after.as_bytes()), &[]).unwrap();
        let mut connection = self.alive.borrow_mut();
        let answer = connection.ask(9, produce(ALIVE, 0, Some(batch.build().unwrap())));
        let answer =
            answer.unwrap_or_else(|error| panic!("after {after:?} the broker takes nothing: {error:#}"));
        let Response::Produce(answer) = answer else { panic!("{answer:?}") };
        let part = &answer.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (0, number), "after {after:?}");
        let Response::Fetch(answer) = connection.ask(12, fetch(ALIVE, 0, number)).unwrap() else { panic!() };
        let batches = split(answer.responses[0].partitions[0].records.clone().unwrap_or_default()).unwrap();
        assert_eq!(batches.len(), 1, "after {after:?}");
        assert_eq!(self.broker.id(), Some(self.process));
        self.served.set(number + 1);
    }

    /// How many rows there were. Panics with all that were answered otherwise than they should, and when the broker
    /// has more in use than before.
    pub fn close(mut self, at_least: usize) {
        let (wrong, rows) = (self.wrong.borrow(), self.rows.get());
        assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
        assert!(rows >= at_least, "{rows} rows");
        println!("{rows} rows");
        let start = Instant::now();
        loop {
            let (before, now) = (self.before, self.footprint());
            let is_back = now.files <= before.files + MORE_FILES
                && now.threads <= before.threads + MORE_THREADS
                && now.connections <= before.connections
                && now.memory <= before.memory + MORE_MEMORY;
            if is_back {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "it had {before:?}, and has {now:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(wrong);
        let log = fs::read_to_string(self.folder.path().join("broker-1.log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(self.broker.stop().unwrap().code(), Some(0));
    }

    fn footprint(&self) -> Footprint {
        let of = |what: &str| PathBuf::from(format!("/proc/{}/{what}", self.process));
        let statm = fs::read_to_string(of("statm")).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let metrics = self.broker.metrics().unwrap();
        Footprint {
            memory: pages * 4_096,
            files: fs::read_dir(of("fd")).unwrap().count(),
            threads: fs::read_dir(of("task")).unwrap().count(),
            connections: counter(&metrics, "tidemill_connections", ""),
        }
    }
}

/// A request that produces to one partition.
pub fn produce(topic: &str, partition: i32, records: Option<Bytes>) -> Request {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000);
    Request::Produce(request.with_topic_data(vec![topic]))
}

/// A request that fetches from one partition.
pub fn fetch(topic: &str, partition: i32, offset: i64) -> Request {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![wanted]);
    Request::Fetch(FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]))
}
