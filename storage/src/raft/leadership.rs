//! Word of who leads.
//!
//! A broker is announced as leader only once an entry of its own term is applied: by then the tables show everything
//! that it inherited, and it may decide. It is not any more, although openraft would go on, once one of its proposals
//! was refused ([`reign`](super::reign)).

use std::sync::Weak;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::{RaftMetrics, RaftServerMetrics};
use openraft::type_config::alias::WatchReceiverOf;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, Term};
use tokio::sync::watch;

use super::node::Node;
use super::types::{self, TypeConfig};
use crate::group::{Leadership, Role};
use crate::log::OnFault;

/// Watches openraft and announces who leads, until openraft ends.
pub struct LeadershipWatch {
    /// openraft's state, term and leader.
    pub server: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    /// All of openraft's metrics; read for why it ended.
    pub metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    /// The term of the last entry applied.
    pub applied_term: watch::Receiver<Option<Term>>,
    /// The last term in which a proposal of this broker was refused.
    pub refused_in: watch::Receiver<Option<Term>>,
    /// Who is told.
    pub announce: watch::Sender<Leadership>,
    /// The replica, as long as anybody needs it.
    pub node: Weak<Node>,
    /// Told when openraft ends by a fault.
    pub on_fault: OnFault,
}

impl LeadershipWatch {
    /// Watches until openraft ends.
    pub async fn run(mut self) {
        loop {
            let leads_in = self.look();
            if let (Some(term), Some(node)) = (leads_in, self.node.upgrade()) {
                self.while_elected(term, &node).await;
            }
            let goes_on = tokio::select! {
                biased;
                changed = self.server.changed() => changed.is_ok(),
                changed = self.applied_term.changed() => changed.is_ok(),
                changed = self.refused_in.changed() => changed.is_ok(),
            };
            if !goes_on {
                break;
            }
        }
        let term = self.announce.borrow().term;
        self.announce.send_replace(Leadership { term, role: Role::Follower { leader: None } });
        if let Some(fault) = self.end() {
            (self.on_fault)(fault);
        }
    }

    /// Announces what is so now. Returns the term in which this broker leads, by openraft's word.
    fn look(&mut self) -> Option<Term> {
        let applied_term = *self.applied_term.borrow_and_update();
        let refused_in = *self.refused_in.borrow_and_update();
        let (term, is_elected, leader) = {
            let server = self.server.borrow_and_update();
            let leader = server.current_leader.map(BrokerId);
            (types::vote(&server.vote).term, server.state == ServerState::Leader, leader)
        };
        let role = match (is_elected, applied_term == Some(term) && refused_in != Some(term)) {
            (true, true) => Role::Leader,
            (true, false) => Role::Follower { leader: None },
            (false, _) => Role::Follower { leader },
        };
        let now = Leadership { term, role };
        self.announce.send_if_modified(|last| std::mem::replace(last, now) != now);
        is_elected.then_some(term)
    }

    /// What a leader has to see to.
    async fn while_elected(&mut self, term: Term, node: &Node) {
        if *self.refused_in.borrow() == Some(term) {
            node.abdicate().await;
        }
        if self.announce.borrow().role == Role::Leader {
            node.give_up_what_is_lost().await;
        }
    }

    /// Why openraft ended, if it should not have.
    fn end(&self) -> Option<Fault> {
        match &self.metrics.borrow_watched().running_state {
            Err(Fatal::Stopped) => None,
            Err(fatal) => Some(Fault::Raft(fatal.to_string())),
            // It could not even say so.
            Ok(()) => Some(Fault::Raft("its task panicked".to_owned())),
        }
    }
}
