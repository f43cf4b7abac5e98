//! The story: a leader, writes, a partition, a tail that is cut off, a step that is inherited.

use tidemill_core::ids::Term;
use tidemill_sim::for_seeds;
use tidemill_sim::net::Weather;
use tidemill_storage::group::ProposeError;

use super::cluster::{Cluster, brokers, record, step};

const ALL: [u64; 3] = [1, 2, 3];

/// Three brokers start; one of them forms the group; somebody leads.
pub async fn formed(seed: u64) -> (Cluster, (u64, Term)) {
    form(Cluster::new(seed)).await
}

/// The same, with a cluster as it is.
pub async fn form(mut cluster: Cluster) -> (Cluster, (u64, Term)) {
    for id in ALL {
        cluster.start(id).await;
    }
    cluster.broker(1).group.form(&brokers(&ALL)).await.expect("a new group is formed");
    let leader = cluster.leader_among(&ALL).await;
    (cluster, leader)
}

async fn the_story(seed: u64) -> Vec<String> {
    let (mut cluster, leader) = formed(seed).await;

    cluster.tell("The leader takes records and the first steps, and all replicas apply them.");
    for offset in 0..20 {
        cluster.write(leader, record(offset)).await.expect("the leader writes");
    }
    for number in 1..=5 {
        cluster.write(leader, step(number)).await.expect("the leader writes");
    }
    cluster.agree(&ALL).await;
    assert_eq!((cluster.broker(2).end(), cluster.broker(2).last_step()), (20, 5));

    cluster.tell("The leader is parted from the others, and goes on for a while: nobody hears of it.");
    let (old, _) = leader;
    let others: Vec<u64> = ALL.into_iter().filter(|id| *id != old).collect();
    cluster.net.part(&brokers(&[old]));
    let mut lost = Vec::new();
    for offset in 20..25 {
        lost.push(cluster.propose(leader, record(offset)).await.expect("it still believes that it leads"));
    }
    let new = cluster.leader_among(&others).await;
    assert!(new.1 > leader.1);
    for offset in 20..23 {
        cluster.write(new, record(offset)).await.expect("the new leader writes");
    }
    cluster.agree(&others).await;
    assert_eq!((cluster.broker(old).end(), cluster.broker(others[0]).end()), (20, 23));

    cluster.tell(
        "The parts meet again: the old leader's tail is cut off, and nobody is told that it was applied.",
    );
    cluster.net.heal();
    for proposal in lost {
        let became = proposal.await;
        assert!(
            matches!(became, Err(ProposeError::Unknown | ProposeError::NotLeader { .. })),
            "a lost entry is {became:?}"
        );
    }
    cluster.agree(&ALL).await;
    assert_eq!(cluster.broker(old).offsets(), (0..23).collect::<Vec<_>>());

    cluster.tell(
        "A step reaches the logs of all, but no word of that gets back to the leader, and it is killed.",
    );
    let leader = cluster.leader_among(&ALL).await;
    let (old, _) = leader;
    let others: Vec<u64> = ALL.into_iter().filter(|id| *id != old).collect();
    for other in &others {
        cluster.net.cut((*other).into_broker(), old.into_broker());
    }
    let unheard = cluster.propose(leader, step(6)).await.expect("it leads");
    let arrived = |cluster: &Cluster| ALL.iter().all(|id| cluster.broker(*id).log_ends_with(&step(6)));
    cluster.wait("the step is in all logs", arrived).await;
    assert!(ALL.iter().all(|id| cluster.broker(*id).last_step() == 5), "nobody has applied it");
    cluster.kill(old);
    assert_eq!(unheard.await, Err(ProposeError::Unknown));
    cluster.net.heal();

    cluster.tell(
        "The next leader finds the step in its log: it is applied before it leads, and step 7 is the next.",
    );
    let new = cluster.leader_among(&others).await;
    assert_eq!(cluster.broker(new.0).last_step(), 6, "an inherited step is used");
    cluster.write(new, step(7)).await.expect("it is the next step, or applying it would be a fault");
    cluster.agree(&others).await;

    cluster.tell("The killed broker comes back, and takes part.");
    cluster.start(old).await;
    cluster.agree(&ALL).await;
    assert_eq!(cluster.broker(old).last_step(), 7);

    cluster.tell("In rough weather all goes on, if more slowly; then the leadership is handed over.");
    cluster.net.set_weather(Weather::rough());
    write_somehow(&mut cluster, 40).await;
    cluster.net.set_weather(Weather::fair());
    cluster.agree(&ALL).await;
    let (old, term) = cluster.leader_among(&ALL).await;
    let next = ALL.into_iter().find(|id| *id != old).expect("there are three");
    cluster.broker(old).group.transfer_leadership(next.into_broker()).await.expect("it is another voter");
    cluster
        .wait("the leadership is handed over", |cluster| cluster.broker(next).leads_in() > Some(term))
        .await;
    let leader = cluster.leader_among(&ALL).await;
    assert_eq!(leader.0, next);
    cluster.write(leader, step(8)).await.expect("the new leader writes");
    cluster.agree(&ALL).await;

    cluster.tell("All stop orderly, and start where they were.");
    for id in ALL {
        cluster.stop(id).await;
    }
    for id in ALL {
        cluster.start(id).await;
        assert_eq!((cluster.broker(id).recovery.unclean, cluster.broker(id).last_step()), (false, 8));
    }
    cluster.leader_among(&ALL).await;
    cluster.agree(&ALL).await;
    cluster.transcript
}

/// Writes records until there are this many, whoever leads, and whatever becomes of a single one.
async fn write_somehow(cluster: &mut Cluster, until: u64) {
    loop {
        let leader = cluster.leader_among(&ALL).await;
        let end = cluster.broker(leader.0).end();
        if end >= until {
            return;
        }
        // An error ends this leadership, or says that nobody knows: the tables know.
        let _ = cluster.write(leader, record(end)).await;
    }
}

/// Numbers as brokers.
pub trait IntoBroker {
    /// The broker of this number.
    fn into_broker(self) -> tidemill_core::ids::BrokerId;
}

impl IntoBroker for u64 {
    fn into_broker(self) -> tidemill_core::ids::BrokerId {
        tidemill_core::ids::BrokerId(self)
    }
}

#[test]
fn three_replicas_tell_one_story() {
    for_seeds(10, |seed| {
        let transcript = tidemill_sim::run(the_story(seed));
        if std::env::var("TIDEMILL_SEED").is_ok() {
            eprintln!("{}", transcript.join("\n"));
        }
    });
}

#[test]
fn a_seed_tells_the_same_story_word_for_word() {
    for seed in [3, 4] {
        let once = tidemill_sim::run(the_story(seed));
        let again = tidemill_sim::run(the_story(seed));
        assert_eq!(once, again, "seed {seed}");
    }
    assert_ne!(tidemill_sim::run(the_story(3)), tidemill_sim::run(the_story(4)), "seeds differ");
}
