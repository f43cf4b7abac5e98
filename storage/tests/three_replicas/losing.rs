//! A replica loses what it had acknowledged: it does not vote before it has it again.

use std::time::Duration;

use tidemill_sim::for_seeds;

use super::cluster::{Cluster, brokers, record};
use super::one_story::{IntoBroker, form};

const ALL: [u64; 3] = [1, 2, 3];

async fn a_follower_forgets(seed: u64) -> Vec<String> {
    let mut cluster = Cluster::new(seed);
    // One segment holds it all.
    cluster.segment_bytes = 1 << 20;
    let (mut cluster, leader) = form(cluster).await;
    for offset in 0..20 {
        cluster.write(leader, record(offset)).await.expect("the leader writes");
    }
    cluster.agree(&ALL).await;
    let mut followers = ALL.into_iter().filter(|id| *id != leader.0);
    let (forgetful, absent) = (followers.next().expect("a second"), followers.next().expect("a third"));

    cluster.tell(format!("Broker {absent} is away while ten records are committed by the two others."));
    cluster.net.part(&brokers(&[absent]));
    for offset in 20..30 {
        cluster.write(leader, record(offset)).await.expect("two of three are enough");
    }

    cluster
        .tell(format!("Broker {forgetful} loses them; then the leader, the last that has them, is killed."));
    cluster.kill(forgetful);
    cluster.lose_newest_segment(forgetful);
    cluster.kill(leader.0);
    cluster.start(forgetful).await;
    let loss = cluster.broker(forgetful).recovery.amnesia.clone().expect("it knows that something is gone");
    assert!(loss.entries.is_some());
    let end = |id: u64| cluster.broker(id).group.log().last_id();
    assert!(end(forgetful) <= end(absent), "its own log would not keep it from voting for the other");
    cluster.net.heal();

    cluster.tell("The two others are a majority, but nobody may lead them.");
    cluster.broker(forgetful).group.elect().await.expect_err("it must not campaign");
    tokio::time::sleep(Duration::from_secs(30)).await;
    for id in [forgetful, absent] {
        assert_eq!(
            cluster.broker(id).leads_in(),
            None,
            "what was acknowledged would be lost\n{}",
            cluster.transcript.join("\n")
        );
    }

    cluster.tell("The killed leader comes back: everything is there, and everybody votes again.");
    cluster.start(leader.0).await;
    cluster.leader_among(&ALL).await;
    cluster.agree(&ALL).await;
    assert_eq!(cluster.broker(forgetful).offsets(), (0..30).collect::<Vec<_>>());
    let now = cluster.leader_among(&ALL).await;
    if now.0 != leader.0 {
        cluster.broker(now.0).group.transfer_leadership(leader.0.into_broker()).await.expect("it is a voter");
        cluster.wait("it leads", |cluster| cluster.broker(leader.0).leads_in().is_some()).await;
    }
    cluster.kill(leader.0);
    let next = cluster.leader_among(&[forgetful, absent]).await;
    cluster.write(next, record(30)).await.expect("the two others are a majority again");

    cluster.tell("It is not remembered for ever.");
    cluster.kill(forgetful);
    cluster.start(forgetful).await;
    assert_eq!(cluster.broker(forgetful).recovery.amnesia, None);
    cluster.transcript
}

#[test]
fn a_replica_that_forgot_does_not_vote_before_it_has_caught_up() {
    for_seeds(10, |seed| {
        tidemill_sim::run(a_follower_forgets(seed));
    });
}
