//! P5, second half, and P6: in the end every acknowledged message is there exactly once, whichever side of a partition
//! acknowledged it; none is there twice, acknowledged or not; and what was refused is not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::core::rows::Message;

use crate::oracle::{ClientId, Oracle};

/// The messages of the channel as a node shows them, by sequence number.
pub(crate) fn check(oracle: &Oracle, shown: &[(u64, Arc<Message>)]) -> Result<(), String> {
    let mut found: BTreeMap<&[u8], Vec<&(u64, Arc<Message>)>> = BTreeMap::new();
    for message in shown {
        found.entry(&message.1.client_id).or_default().push(message);
    }
    for (id, at) in &found {
        if at.len() > 1 {
            let places: Vec<u64> = at.iter().map(|(seq, _)| *seq).collect();
            return Err(format!("P5: message {} is there {} times: {places:?}", name(id), at.len()));
        }
    }
    // What a person sees: the same text twice is the same message twice.
    let mut texts = BTreeMap::new();
    for (seq, message) in shown {
        if let Some(before) = texts.insert(&message.body, seq) {
            return Err(format!("P5: the text of message {seq} is there already, as message {before}"));
        }
    }
    for (id, message) in &oracle.messages {
        let there = found.get(&id[..]).map(|at| &at[0].1);
        match there {
            None if message.acknowledged => {
                return Err(format!("P5/P6: message {} was acknowledged and is not there", name(id)));
            }
            Some(there) if there.body != message.body => {
                return Err(format!("P5: message {} is there with another text", name(id)));
            }
            Some(_) if message.refused => return Err(format!("P5: message {} was refused and is there", name(id))),
            _ => {}
        }
    }
    match found.keys().find(|id| ClientId::try_from(**id).is_ok_and(|id| !oracle.messages.contains_key(&id))) {
        Some(id) => Err(format!("P5: message {} was never sent", name(id))),
        None => Ok(()),
    }
}

fn name(id: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(id)
}
