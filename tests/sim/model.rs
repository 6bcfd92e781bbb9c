//! What the world knows and no client does: every event ever seen, by place, by id and by nonce. Whoever sees an event tells the model, and
//! the model answers whether it agrees with what all others have seen.

use crate::document::Fields;
use std::collections::BTreeMap;

/// Where a durable event is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub tenant: usize,
    pub room: String,
    pub epoch: String,
    pub offset: u64,
}

/// What a publisher said of an event; by its nonce.
#[derive(Clone, Debug)]
pub struct Draft {
    pub tenant: usize,
    pub room: String,
    pub event: &'static str,
    /// Only for those with this role.
    pub role: Option<&'static str>,
    pub ephemeral: bool,
}

/// An offset a client did not get: right only if its filter or its role says so.
pub struct Skip {
    pub client: String,
    pub spot: Spot,
    pub filter: Option<&'static str>,
    pub role: &'static str,
}

#[derive(Default)]
pub struct Model {
    pub drafts: BTreeMap<u64, Draft>,
    spots: BTreeMap<Spot, (String, Option<u64>)>,
    ids: BTreeMap<(usize, String), (Spot, u64)>,
    nonces: BTreeMap<u64, Spot>,
    pub skips: Vec<Skip>,
    /// Announcements to everyone; they are numbered from 1.
    pub announced: u64,
    pub mirrored: u64,
    pub delivered: u64,
    pub acknowledged: u64,
    pub recovered: u64,
    pub not_recovered: u64,
    pub moved: u64,
    pub upgraded: u64,
    pub slow: u64,
    /// By tenant, document, epoch and version.
    pub documents: BTreeMap<(usize, String, String, u64), Fields>,
    pub written: u64,
    pub disputes: u64,
    /// Others that did not hear of a short break, and heard of the end.
    pub graces: u64,
    pub away: crate::away::Away,
}

/// A publisher's id is remembered for five minutes.
const ID_TTL_US: u64 = 290_000_000;

impl Model {
    pub fn draft(&mut self, draft: Draft) -> u64 {
        let nonce = self.drafts.len() as u64 + 1;
        self.drafts.insert(nonce, draft);
        nonce
    }

    /// Somebody has seen this event there.
    pub fn saw(&mut self, at: u64, spot: Spot, id: &str, nonce: Option<u64>) -> Result<(), String> {
        let (known, known_nonce) = self.spots.entry(spot.clone()).or_insert_with(|| (id.to_owned(), nonce));
        if known != id || (known_nonce.is_some() && nonce.is_some() && *known_nonce != nonce) {
            return Err(format!("two events at {spot:?}: {known} ({known_nonce:?}) and {id} ({nonce:?})"));
        }
        *known_nonce = known_nonce.or(nonce);
        let (first, since) = self.ids.entry((spot.tenant, id.to_owned())).or_insert_with(|| (spot.clone(), at));
        if *first != spot {
            if at - *since < ID_TTL_US {
                return Err(format!("one id, two events: {id} at {first:?} and {spot:?}"));
            }
            (*first, *since) = (spot.clone(), at);
        }
        if let Some(nonce) = nonce {
            let draft = self.drafts.get(&nonce).ok_or_else(|| format!("nobody published {nonce}"))?;
            if draft.tenant != spot.tenant || draft.room != spot.room || draft.ephemeral {
                return Err(format!("{draft:?} at {spot:?}"));
            }
            self.nonces.insert(nonce, spot);
        }
        Ok(())
    }

    /// Whether a client may have this event, by what its publisher said.
    pub fn admits(&self, nonce: u64, filter: Option<&str>, role: &str) -> bool {
        self.drafts.get(&nonce).is_some_and(|draft| {
            filter.is_none_or(|filter| filter == draft.event) && draft.role.is_none_or(|wanted| wanted == role)
        })
    }

    /// Offsets that clients did not get, which they should have.
    pub fn check_skips(&self) -> Result<(), String> {
        for skip in &self.skips {
            let Some((id, Some(nonce))) = self.spots.get(&skip.spot) else { continue };
            if self.admits(*nonce, skip.filter, skip.role) {
                return Err(format!("{} never got {id} at {:?}, which it may have", skip.client, skip.spot));
            }
        }
        Ok(())
    }

    pub fn events(&self) -> usize {
        self.spots.len()
    }
}
