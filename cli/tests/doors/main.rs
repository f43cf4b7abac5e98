//! Bad input, at every door of a broker and of its command.
//!
//! Each door is a file with a table: what is sent, and what must come back. A broker that is a process of its own stands
//! behind the door, and after every row it must still serve: the same process takes a record and gives it back. At the
//! end it must not have grown. What is wrong is told by Kafka's code or by a problem document, with the field; a client
//! whose bytes cannot be understood any more gets its connection closed, which is Kafka's answer, too.
//!
//! | file | door |
//! |---|---|
//! | `frames` | bytes on a connection: lengths, heads, versions, bodies |
//! | `batches` | Produce: what is in a record batch |
//! | `requests` | every other request of Kafka's |
//! | `http` | the admin API: paths, methods, headers, queries, documents |
//! | `plugins` | components and manifests |
//! | `bundles` | archives of files, and manifests that name them |
//! | `settings` | files, the environment, `--set` |
//! | `arguments` | the command line |
//! | `files` | data folders that are damaged, or none |
//! | `strangers` | QUIC and TLS: certificates, protocols, datagrams, and clients that say nothing |
//!
//! What decoders make of any bytes is `hostile`'s to say.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests live in the real world")]
#![allow(missing_docs, reason = "tests are read, not called")]

mod arguments;
mod batches;
mod bundles;
mod command;
mod door;
mod files;
mod frames;
mod http;
mod plugins;
mod requests;
mod settings;
mod strangers;
mod tls;
