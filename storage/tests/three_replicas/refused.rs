//! What Raft refuses: proposals while too few are heard from, and messages that are none.

use std::time::Duration;

use bytes::Bytes;
use tidemill_core::ids::GroupId;
use tidemill_sim::for_seeds;
use tidemill_storage::group::ProposeError;
use tidemill_storage::raft::message::answer::Answer;
use tidemill_storage::raft::message::ask::Ask;

use super::cluster::{brokers, record};
use super::one_story::{IntoBroker, formed};

const ALL: [u64; 3] = [1, 2, 3];

/// A proposal is refused in a term; so all later ones of that term are, although the leader is heard again at once.
async fn nothing_follows_a_refused_proposal(seed: u64) {
    let (mut cluster, leader) = formed(seed).await;
    cluster.write(leader, record(0)).await.expect("the leader writes");
    cluster.net.part(&brokers(&[leader.0]));
    // Its lease ends before anybody else can lead.
    let mut refused = None;
    for offset in 1..1_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match cluster.propose(leader, record(offset)).await {
            // Handed over; what becomes of it is told later.
            Ok(proposal) => refused = Some(proposal),
            Err(error) => {
                assert!(matches!(error, ProposeError::NotLeader { .. }), "{error:?}");
                break;
            }
        }
    }
    cluster.net.heal();
    let last = refused.expect("some were handed over").await;
    assert!(matches!(last, Err(ProposeError::NotLeader { .. } | ProposeError::Unknown)), "{last:?}");
    assert_eq!(
        cluster.propose(leader, record(1)).await.err(),
        Some(ProposeError::NotLeader { leader: None }),
        "the term is over for this leader, whatever openraft thinks of it"
    );
    let next = cluster.leader_among(&ALL).await;
    assert!(next.1 > leader.1, "there is another term");
    let end = cluster.broker(next.0).end();
    cluster.write(next, record(end)).await.expect("a head made of the tables is right again");
    cluster.agree(&ALL).await;
}

#[test]
fn a_refused_proposal_ends_the_term() {
    for_seeds(10, |seed| tidemill_sim::run(nothing_follows_a_refused_proposal(seed)));
}

async fn strange_messages(seed: u64) {
    let (mut cluster, leader) = formed(seed).await;
    let follower = ALL.into_iter().find(|id| *id != leader.0).expect("there are three");
    let group = cluster.broker(follower).group.clone();
    let other = cluster.broker(leader.0).group.log().vote().expect("it has voted");
    let answer =
        async |from: u64, message: Bytes| Answer::decode(&group.answer(from.into_broker(), message).await);

    let garbage = Bytes::from_static(b"\x01\x01\x00\x00 what is this?");
    assert_eq!(answer(leader.0, garbage).await, Ok(Answer::Malformed));
    assert_eq!(answer(leader.0, Bytes::new()).await, Ok(Answer::Malformed));

    let ask = Ask::Vote { vote: other, last: None, transfer: false, pre: false };
    let elsewhere = answer(leader.0, ask.encode(GroupId::Catalog)).await;
    assert!(matches!(elsewhere, Ok(Answer::Refused(_))), "for another group: {elsewhere:?}");
    let mine = GroupId::Shard(tidemill_core::ids::ShardId(0));
    let another = answer(follower, ask.encode(mine)).await;
    assert!(matches!(another, Ok(Answer::Refused(_))), "in another's name: {another:?}");

    cluster.write(leader, record(0)).await.expect("and all goes on");
    cluster.agree(&ALL).await;
}

#[test]
fn strange_messages_harm_nobody() {
    for_seeds(3, |seed| tidemill_sim::run(strange_messages(seed)));
}
