//! Who a session is: what its token said, kept small.
//!
//! Users of a tenant mostly have one of a few sets of rights, so a session has its rights from its tenant: 48 bytes and the user's name,
//! where an [`Admission`] of its own took 112, the tenant's name, and a piece of memory for each role and permission.

use crate::base::{id::TenantId, time::UnixMs};
use crate::wire::auth::{Admission, Rights};
use std::ops::Deref;
use std::rc::Rc;

/// Sets of rights a tenant remembers, to share them.
const RIGHTS_KEPT: usize = 16;

/// A session's tenant, user and rights. Tenant and user never change.
pub struct Identity {
    pub tenant: Rc<TenantId>,
    pub user: Box<str>,
    rights: Rc<Rights>,
    /// As in [`Admission::expires_at`].
    pub expires_at: Option<UnixMs>,
}

const _: () = assert!(size_of::<Identity>() <= 48, "one for each session");

impl Identity {
    pub fn new(admission: Admission, tenant: Rc<TenantId>, known: &mut KnownRights) -> Identity {
        debug_assert_eq!(*tenant, admission.tenant);
        let Admission { tenant: _, user, rights, expires_at } = admission;
        Identity { tenant, user, rights: known.share(rights), expires_at }
    }

    /// Whether a token is of the same tenant and user.
    pub fn is(&self, admission: &Admission) -> bool {
        (&*self.tenant, &self.user) == (&admission.tenant, &admission.user)
    }

    /// As if its token was read once more.
    pub fn admission(&self) -> Admission {
        Admission {
            tenant: (*self.tenant).clone(),
            user: self.user.clone(),
            rights: (*self.rights).clone(),
            expires_at: self.expires_at,
        }
    }
}

impl Deref for Identity {
    type Target = Rights;

    fn deref(&self) -> &Rights {
        &self.rights
    }
}

/// The sets of rights a tenant's latest sessions had.
#[derive(Default)]
pub struct KnownRights(Vec<Rc<Rights>>);

impl KnownRights {
    /// The same rights, shared with whoever else has them. At most [`RIGHTS_KEPT`] comparisons.
    fn share(&mut self, rights: Rights) -> Rc<Rights> {
        if let Some(known) = self.0.iter().find(|known| ***known == rights) {
            return known.clone();
        }
        if self.0.len() == RIGHTS_KEPT {
            // Those that nobody has any more, or else the oldest.
            self.0.retain(|known| Rc::strong_count(known) > 1);
            if self.0.len() == RIGHTS_KEPT {
                self.0.remove(0);
            }
        }
        let rights = Rc::new(rights);
        self.0.push(rights.clone());
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(known: &mut KnownRights, user: &str, role: &str) -> Identity {
        let tenant = TenantId::parse("acme").unwrap();
        let rights = Rights { roles: [role.into()].into(), ..Rights::default() };
        let admission = Admission { tenant: tenant.clone(), user: user.into(), rights, expires_at: None };
        let identity = Identity::new(admission.clone(), Rc::new(tenant), known);
        assert!(identity.is(&admission) && identity.admission() == admission, "nothing is lost");
        identity
    }

    #[test]
    fn equal_rights_are_shared_and_few_are_remembered() {
        let mut known = KnownRights::default();
        let (ann, bob) = (identity(&mut known, "ann", "admin"), identity(&mut known, "bob", "admin"));
        assert!(Rc::ptr_eq(&ann.rights, &bob.rights));
        for n in 0..3 * RIGHTS_KEPT {
            identity(&mut known, "eve", &format!("role-{n}"));
            assert!(known.0.len() <= RIGHTS_KEPT);
        }
        assert!(
            Rc::ptr_eq(&ann.rights, &identity(&mut known, "cat", "admin").rights),
            "what is had is not forgotten first"
        );
    }
}
