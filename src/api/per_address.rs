//! How much of something one address may have at a time: connections, live feeds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whom an address stands for. Of an IPv6 address the network: whoever has one address there has all of them.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into()),
        },
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct PerAddress {
    /// Zero: without limit.
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl PerAddress {
    /// At most so many for each address; zero: without limit.
    pub fn new(most: usize) -> PerAddress {
        PerAddress {
            most,
            taken: Arc::default(),
        }
    }

    /// One more for an address, until it is dropped; none if it has as many as it may.
    pub fn take(&self, address: IpAddr) -> Option<OfAddress> {
        let mut all = lock(&self.taken);
        let taken = all.entry(address).or_default();
        if self.most > 0 && *taken >= self.most {
            return None;
        }
        *taken = taken.saturating_add(1);
        Some(OfAddress {
            address,
            taken: Arc::clone(&self.taken),
        })
    }
}

/// What an address has taken.
pub(super) struct OfAddress {
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut all = lock(&self.taken);
        if let Some(taken) = all.get_mut(&self.address) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                all.remove(&self.address);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}
