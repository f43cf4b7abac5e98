//! The shapes of the messages that we speak, in the versions that we speak.
//!
//! Source: the message definitions of Apache Kafka. A shape that differs from its decoder fails the test in `shape`.

use super::shape::Part::{Array, Blob, Fixed, Plain, Since, Struct, Tagged, Text, Texts, Within};
use super::shape::{Part, Shape};

const I8: Part = Fixed(1);
const I16: Part = Fixed(2);
const I32: Part = Fixed(4);
const I64: Part = Fixed(8);
const UUID: Part = Fixed(16);

/// Name, oldest and newest version of a feature.
const FEATURES: Part = Array(&[Text, I16, I16]);
/// A leader's id and epoch.
const LEADER: Part = Struct(&[I32, I32]);

pub(super) const API_VERSIONS_REQUEST: Shape = &[Since(3, &Text), Since(3, &Text)];
pub(super) const API_VERSIONS_RESPONSE: Shape = &[
    I16,
    Array(&[I16, I16, I16]),
    Since(1, &I32),
    Tagged(0, 3, &FEATURES),
    Tagged(1, 3, &I64),
    Tagged(2, 3, &FEATURES),
    Tagged(3, 3, &I8),
];

pub(super) const METADATA_REQUEST: Shape =
    &[Array(&[Since(10, &UUID), Text]), Since(4, &I8), Within(8, 10, &I8), Since(8, &I8)];
pub(super) const METADATA_RESPONSE: Shape = &[
    Since(3, &I32),
    Array(&[I32, Text, I32, Since(1, &Text)]),
    Since(2, &Text),
    Since(1, &I32),
    Array(&[
        I16,
        Text,
        Since(10, &UUID),
        Since(1, &I8),
        Array(&[I16, I32, I32, Since(7, &I32), Plain(4), Plain(4), Since(5, &Plain(4))]),
        Since(8, &I32),
    ]),
    Within(8, 10, &I32),
];

pub(super) const PRODUCE_REQUEST: Shape = &[Text, I16, I32, Array(&[Text, Array(&[I32, Blob])])];
pub(super) const PRODUCE_RESPONSE: Shape = &[
    Array(&[
        Text,
        Array(&[
            I32,
            I16,
            I64,
            I64,
            Since(5, &I64),
            Since(8, &Array(&[I32, Text])),
            Since(8, &Text),
            Tagged(0, 10, &LEADER),
        ]),
    ]),
    I32,
    Tagged(0, 10, &Array(&[I32, Text, I32, Text])),
];

pub(super) const FETCH_REQUEST: Shape = &[
    I32,
    I32,
    I32,
    I32,
    I8,
    Since(7, &I32),
    Since(7, &I32),
    Array(&[Text, Array(&[I32, Since(9, &I32), I64, Since(12, &I32), Since(5, &I64), I32])]),
    Since(7, &Array(&[Text, Plain(4)])),
    Since(11, &Text),
    Tagged(0, 12, &Text),
];
pub(super) const FETCH_RESPONSE: Shape = &[
    I32,
    Since(7, &I16),
    Since(7, &I32),
    Array(&[
        Text,
        Array(&[
            I32,
            I16,
            I64,
            I64,
            Since(5, &I64),
            Array(&[I64, I64]),
            Since(11, &I32),
            Blob,
            Tagged(0, 12, &Struct(&[I32, I64])),
            Tagged(1, 12, &LEADER),
            Tagged(2, 12, &Struct(&[I64, I32])),
        ]),
    ]),
];

pub(super) const LIST_OFFSETS_REQUEST: Shape =
    &[I32, Since(2, &I8), Array(&[Text, Array(&[I32, Since(4, &I32), I64])])];
pub(super) const LIST_OFFSETS_RESPONSE: Shape =
    &[Since(2, &I32), Array(&[Text, Array(&[I32, I16, I64, I64, Since(4, &I32)])])];

pub(super) const CREATE_TOPICS_REQUEST: Shape =
    &[Array(&[Text, I32, I16, Array(&[I32, Plain(4)]), Array(&[Text, Text])]), I32, I8];
pub(super) const CREATE_TOPICS_RESPONSE: Shape = &[
    I32,
    Array(&[
        Text,
        Since(7, &UUID),
        I16,
        Text,
        Since(5, &I32),
        Since(5, &I16),
        Since(5, &Array(&[Text, Text, I8, I8, I8])),
        Tagged(0, 5, &I16),
    ]),
];

pub(super) const DELETE_TOPICS_REQUEST: Shape = &[Since(6, &Array(&[Text, UUID])), Within(1, 5, &Texts), I32];
pub(super) const DELETE_TOPICS_RESPONSE: Shape =
    &[I32, Array(&[Text, Since(6, &UUID), I16, Since(5, &Text)])];

pub(super) const DESCRIBE_CONFIGS_REQUEST: Shape = &[Array(&[I8, Text, Texts]), I8, Since(3, &I8)];
pub(super) const DESCRIBE_CONFIGS_RESPONSE: Shape = &[
    I32,
    Array(&[
        I16,
        Text,
        I8,
        Text,
        Array(&[Text, Text, I8, I8, I8, Array(&[Text, Text, I8]), Since(3, &I8), Since(3, &Text)]),
    ]),
];

pub(super) const INCREMENTAL_ALTER_CONFIGS_REQUEST: Shape =
    &[Array(&[I8, Text, Array(&[Text, I8, Text])]), I8];
pub(super) const INCREMENTAL_ALTER_CONFIGS_RESPONSE: Shape = &[I32, Array(&[I16, Text, I8, Text])];

pub(super) const CREATE_PARTITIONS_REQUEST: Shape = &[Array(&[Text, I32, Array(&[Plain(4)])]), I32, I8];
pub(super) const CREATE_PARTITIONS_RESPONSE: Shape = &[I32, Array(&[Text, I16, Text])];

pub(super) const INIT_PRODUCER_ID_REQUEST: Shape = &[Text, I32, Since(3, &I64), Since(3, &I16)];
pub(super) const INIT_PRODUCER_ID_RESPONSE: Shape = &[I32, I16, I64, I16];

pub(super) const OFFSET_COMMIT_REQUEST: Shape = &[
    Text,
    I32,
    Text,
    Since(7, &Text),
    Within(2, 4, &I64),
    Array(&[Text, Array(&[I32, I64, Since(6, &I32), Text])]),
];
pub(super) const OFFSET_COMMIT_RESPONSE: Shape = &[Since(3, &I32), Array(&[Text, Array(&[I32, I16])])];

/// Name and numbers of the partitions of a topic.
const PARTITIONS: Part = Array(&[Text, Plain(4)]);
/// The committed offsets of a topic.
const COMMITTED: Part = Array(&[Text, Array(&[I32, I64, Since(5, &I32), Text, I16])]);

pub(super) const OFFSET_FETCH_REQUEST: Shape = &[
    Within(1, 7, &Text),
    Within(1, 7, &PARTITIONS),
    Since(8, &Array(&[Text, Since(9, &Text), Since(9, &I32), PARTITIONS])),
    Since(7, &I8),
];
pub(super) const OFFSET_FETCH_RESPONSE: Shape = &[
    Since(3, &I32),
    Within(1, 7, &COMMITTED),
    Within(2, 7, &I16),
    Since(8, &Array(&[Text, COMMITTED, I16])),
];

pub(super) const FIND_COORDINATOR_REQUEST: Shape = &[Within(0, 3, &Text), Since(1, &I8), Since(4, &Texts)];
pub(super) const FIND_COORDINATOR_RESPONSE: Shape = &[
    Since(1, &I32),
    Within(0, 3, &I16),
    Within(1, 3, &Text),
    Within(0, 3, &I32),
    Within(0, 3, &Text),
    Within(0, 3, &I32),
    Since(4, &Array(&[Text, I32, Text, I32, I16, Text])),
];

pub(super) const DELETE_RECORDS_REQUEST: Shape = &[Array(&[Text, Array(&[I32, I64])]), I32];
pub(super) const DELETE_RECORDS_RESPONSE: Shape = &[I32, Array(&[Text, Array(&[I32, I64, I16])])];
