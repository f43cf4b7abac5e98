//! A broker that is the only voter: it leads at once, with everything that it has.

use tidemill_sim::for_seeds;

use super::cluster::{Cluster, brokers, record, step};

async fn formed(seed: u64) -> (Cluster, (u64, tidemill_core::ids::Term)) {
    let mut cluster = Cluster::new(seed);
    cluster.start(1).await;
    cluster.broker(1).group.form(&brokers(&[1])).await.expect("a new group is formed");
    let leader = cluster.leader_among(&[1]).await;
    (cluster, leader)
}

async fn many_lives(seed: u64) {
    let (mut cluster, _) = formed(seed).await;
    for life in 0..20 {
        let start = tokio::time::Instant::now();
        let leader = cluster.leader_among(&[1]).await;
        assert!(
            start.elapsed().as_millis() < 10,
            "nobody is waited for, and yet it took {:?}",
            start.elapsed()
        );
        assert_eq!(cluster.broker(1).end(), 3 * life, "all that was acknowledged is applied");
        for offset in 0..3 {
            cluster.write(leader, record(3 * life + offset)).await.expect("it leads");
        }
        match life % 3 {
            0 => cluster.stop(1).await,
            1 => cluster.kill(1),
            _ => cluster.cut_power(1),
        }
        cluster.start(1).await;
    }
}

#[test]
fn it_leads_at_once_and_has_everything() {
    for_seeds(5, |seed| tidemill_sim::run(many_lives(seed)));
}

/// The newest segment is taken away; what the tables show of it stays, or goes with it, and it goes on.
async fn a_loss(seed: u64, orderly: bool) {
    let (mut cluster, leader) = formed(seed).await;
    for offset in 0..30 {
        cluster.write(leader, record(offset)).await.expect("it leads");
    }
    cluster.write(leader, step(1)).await.expect("it leads");
    if orderly {
        cluster.stop(1).await;
    } else {
        cluster.kill(1);
    }
    cluster.lose_newest_segment(1);

    cluster.start(1).await;
    let loss = cluster.broker(1).recovery.amnesia.clone().expect("it says what it lost");
    assert!(loss.entries.is_some());
    let leader = cluster.leader_among(&[1]).await;
    let (end, last_step) = (cluster.broker(1).end(), cluster.broker(1).last_step());
    assert_eq!(
        (end, last_step) == (30, 1),
        orderly,
        "the checkpoint of an orderly end reaches further than the log"
    );
    cluster.write(leader, record(end)).await.expect("it goes on with what it has");
    cluster.write(leader, step(last_step + 1)).await.expect("it goes on with what it has");
    assert_eq!(cluster.broker(1).offsets().last(), Some(&end));

    cluster.kill(1);
    cluster.start(1).await;
    assert_eq!(cluster.broker(1).recovery.amnesia, None, "it has been told");
    cluster.leader_among(&[1]).await;
    assert_eq!(cluster.broker(1).last_step(), last_step + 1);
}

#[test]
fn it_says_what_it_lost_and_goes_on() {
    for_seeds(3, |seed| {
        tidemill_sim::run(a_loss(seed, false));
        tidemill_sim::run(a_loss(seed, true));
    });
}
