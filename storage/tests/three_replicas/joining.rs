//! An empty replica is caught up by a checkpoint and by segments, votes, and leads.

use std::time::Duration;

use tidemill_core::ids::LogIndex;
use tidemill_sim::for_seeds;
use tidemill_sim::net::Weather;

use super::cluster::{Cluster, brokers, record, step};
use super::one_story::{IntoBroker, formed};

const ALL: [u64; 3] = [1, 2, 3];

async fn an_empty_replica_joins(seed: u64) -> Vec<String> {
    let (mut cluster, leader) = formed(seed).await;
    cluster.tell("The group has a history, in several segments, and Raft has forgotten most of it.");
    for offset in 0..120 {
        cluster.write(leader, record(offset)).await.expect("the leader writes");
    }
    cluster.write(leader, step(1)).await.expect("the leader writes");
    let forgotten = cluster.broker(leader.0).group.purge().await.expect("it lives");
    let is_purged = |cluster: &Cluster| {
        cluster.broker(leader.0).group.log().purged().map(|purged| purged.index) == forgotten
    };
    cluster.wait("Raft forgets", is_purged).await;
    assert!(forgotten > Some(LogIndex(120)));
    for offset in 120..130 {
        cluster.write(leader, record(offset)).await.expect("the leader writes");
    }
    cluster.agree(&ALL).await;

    cluster.tell("A fourth broker starts with an empty disk, and is killed while the snapshot arrives.");
    cluster.start(4).await;
    cluster.net.set_weather(Weather {
        delay: Duration::from_millis(20)..Duration::from_millis(40),
        ..Weather::rough()
    });
    let group = cluster.broker(leader.0).group.clone();
    let adding = async move { group.add_learner(4.into_broker()).await };
    let adding = tokio::spawn(adding);
    let some_is_there = |cluster: &Cluster| cluster.broker(4).group.log().installing().is_some();
    cluster.wait("records arrive", some_is_there).await;
    let there = cluster.broker(4).group.log().installing();
    cluster.kill(4);
    cluster.start(4).await;
    assert_eq!(cluster.broker(4).group.log().installing(), there, "what arrived is still there");

    cluster.tell("It goes on where it was, and is caught up.");
    adding.await.expect("no panic").expect("the leader adds it");
    cluster.net.set_weather(Weather::fair());
    let four = [1, 2, 3, 4];
    cluster.agree(&four).await;
    let fourth = cluster.broker(4);
    assert_eq!(
        fourth.group.log().purged().map(|purged| purged.index),
        forgotten,
        "it got the snapshot, not the log"
    );
    assert_eq!(fourth.group.log().first_index(), Some(LogIndex(0)), "and the history below it");
    assert_eq!(fourth.offsets(), (0..130).collect::<Vec<_>>(), "so it serves from the first offset on");
    assert_eq!(fourth.group.members().learners, brokers(&[4]));

    cluster.tell("It becomes a voter in the place of another, and leads.");
    let leaving = ALL.into_iter().find(|id| *id != leader.0).expect("there are three");
    let voters: Vec<u64> = four.into_iter().filter(|id| *id != leaving).collect();
    cluster.broker(leader.0).group.change_voters(&brokers(&voters)).await.expect("they are members");
    cluster.broker(leader.0).group.transfer_leadership(4.into_broker()).await.expect("it is a voter");
    cluster.wait("it leads", |cluster| cluster.broker(4).leads_in().is_some()).await;
    let leader = cluster.leader_among(&[4]).await;
    cluster.write(leader, record(130)).await.expect("it writes");
    cluster.write(leader, step(2)).await.expect("it is the next step");
    cluster.agree(&voters).await;
    assert_eq!(cluster.broker(4).group.members().voters, brokers(&voters));

    cluster.tell("It starts again, and still has everything.");
    cluster.kill(4);
    cluster.start(4).await;
    cluster.agree(&voters).await;
    assert_eq!(cluster.broker(4).offsets(), (0..131).collect::<Vec<_>>());
    cluster.transcript
}

#[test]
fn an_empty_replica_is_caught_up_by_checkpoint_and_segments() {
    for_seeds(10, |seed| {
        let transcript = tidemill_sim::run(an_empty_replica_joins(seed));
        if std::env::var("TIDEMILL_SEED").is_ok() {
            eprintln!("{}", transcript.join("\n"));
        }
    });
}
