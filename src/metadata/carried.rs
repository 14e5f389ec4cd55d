//! Records about things that have no meaning for this broker (yet): ACLs, quotas, SCRAM credentials, delegation tokens,
//! controllers' registrations. They are kept byte for byte and keyed by what they are about, so that a snapshot holds
//! what the log held.

use super::codec::{DecodeError, Reader, Writer};

const DELEGATION_TOKEN: u32 = 10;
const USER_SCRAM_CREDENTIAL: u32 = 11;
const CLIENT_QUOTA: u32 = 14;
const ACCESS_CONTROL_ENTRY: u32 = 18;
const REMOVE_ACCESS_CONTROL_ENTRY: u32 = 19;
const ZK_MIGRATION_STATE: u32 = 21;
const REMOVE_USER_SCRAM_CREDENTIAL: u32 = 22;
const REMOVE_DELEGATION_TOKEN: u32 = 26;
const REGISTER_CONTROLLER: u32 = 27;

/// The kind of record that says it, and which one of its kind it is about.
pub type Identity = (u32, Vec<u8>);

#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    pub key: u32,
    pub identity: Identity,
    /// It takes back what was said.
    pub removes: bool,
    /// The whole record, frame included.
    pub bytes: Vec<u8>,
}

impl Carried {
    /// `fields`: what of `bytes` follows the frame.
    pub fn read(key: u32, bytes: &[u8], fields: &mut Reader<'_>) -> Result<Carried, DecodeError> {
        let mut identity = Writer::new();
        let (kind, removes) = match key {
            DELEGATION_TOKEN => {
                let (_owner, _requester) = (fields.string()?, fields.string()?);
                fields.array(|r| r.string())?;
                let _issue_max_expiration = (fields.i64()?, fields.i64()?, fields.i64()?);
                identity.string(&fields.string()?);
                (key, false)
            }
            REMOVE_DELEGATION_TOKEN => {
                identity.string(&fields.string()?);
                (DELEGATION_TOKEN, true)
            }
            USER_SCRAM_CREDENTIAL | REMOVE_USER_SCRAM_CREDENTIAL => {
                identity.string(&fields.string()?);
                identity.i8(fields.i8()?);
                (USER_SCRAM_CREDENTIAL, key == REMOVE_USER_SCRAM_CREDENTIAL)
            }
            CLIENT_QUOTA => (key, read_quota(&mut identity, fields)?),
            ACCESS_CONTROL_ENTRY | REMOVE_ACCESS_CONTROL_ENTRY => {
                identity.uuid(fields.uuid()?);
                (ACCESS_CONTROL_ENTRY, key == REMOVE_ACCESS_CONTROL_ENTRY)
            }
            ZK_MIGRATION_STATE => (key, false),
            REGISTER_CONTROLLER => {
                identity.i32(fields.i32()?);
                (key, false)
            }
            _ => return Err(DecodeError::UnknownKey(key)),
        };
        Ok(Carried { key, identity: (kind, identity.finish()), removes, bytes: bytes.to_vec() })
    }
}

/// A quota is one number of one entity, whose parts may come in any order. True if it is removed.
fn read_quota(identity: &mut Writer, fields: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let mut entity = fields.array(|r| {
        let part = (r.string()?, r.nullable_string()?);
        r.end_plain_struct()?;
        Ok(part)
    })?;
    entity.sort();
    identity.array(&entity, |w, (kind, name)| {
        w.string(kind);
        w.nullable_string(name.as_deref());
    });
    identity.string(&fields.string()?);
    let _value = fields.i64()?;
    fields.bool()
}
