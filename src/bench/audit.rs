//! The check after each round of failovers: everything acknowledged so far is stored exactly once. It remembers what it
//! has read, so a round costs what the round wrote.
//!
//! Must never take a message for stored because it was stored at an earlier check of another history: it is only asked
//! when the pair is protected, and from then on no history is cut.

use std::cell::RefCell;
use std::rc::Rc;

use super::check::{Watched, is_text_of, page};
use super::client::Http;
use super::error::BenchError;
use super::progress::Progress;
use super::station::{Body, Book};
use super::verify::{Verdict, origin};

/// How far a channel was read.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    last_seq: u64,
}

/// What was read so far.
///
/// - A message is counted as lost or duplicated once, in the round in which that is found.
/// - `places[sender][counter]` is the number under which the message is stored, 0: not seen.
#[derive(Debug, Default)]
pub struct Audit {
    run: u32,
    readings: Vec<Reading>,
    places: Vec<Vec<u32>>,
    /// Acknowledgements up to this counter of each sender were looked for.
    looked_for: Vec<u32>,
    /// Histories may have been merged: a message may be stored under another number than it was acknowledged with.
    may_merge: bool,
    verdict: Verdict,
    merged: u64,
}

impl Audit {
    /// Nothing read yet of `channels` channels to which `senders` senders send.
    #[must_use]
    pub fn new(run: u32, (channels, senders): (usize, usize), may_merge: bool) -> Self {
        Self {
            run,
            readings: vec![Reading::default(); channels],
            places: vec![Vec::new(); senders],
            looked_for: vec![0; senders],
            may_merge,
            verdict: Verdict::default(),
            merged: 0,
        }
    }

    /// What was found over all rounds.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Acknowledged messages that are stored under another number: they were merged.
    #[must_use]
    pub fn merged(&self) -> u64 {
        self.merged
    }

    /// The last number of each channel.
    pub fn last_seqs(&self) -> impl Iterator<Item = u64> + '_ {
        self.readings.iter().map(|reading| reading.last_seq)
    }

    /// Reads what is new in all channels and looks for everything that was acknowledged. Nothing may be under way.
    ///
    /// # Errors
    /// The channels could not be read.
    pub async fn round(
        &mut self,
        http: &mut Http,
        (watched, body): (&[Watched], Body),
        (books, progress): (&[Rc<RefCell<Book>>], &mut Progress),
    ) -> Result<(), BenchError> {
        for (at, watched) in watched.iter().enumerate() {
            loop {
                let after = self.readings[at].last_seq;
                let page = page(http, watched.channel, after, &watched.token).await?;
                for stored in &page.items {
                    let from =
                        origin(self.run, stored.client_id).filter(|(sender, _)| watched.senders.contains(sender));
                    let right = from.is_some() && is_text_of(stored, body);
                    self.see(at, stored.seq, from.filter(|_| right));
                }
                let read_to = self.readings[at].last_seq;
                if read_to <= after || read_to >= page.last_seq {
                    break;
                }
                progress.say(|| format!("reading channel {at} back, {read_to} of {} messages", page.last_seq));
            }
        }
        for (sender, book) in books.iter().enumerate() {
            self.look_for(sender, &book.borrow());
        }
        Ok(())
    }

    /// Notes a stored message; `from` is who sent it as which, if it is one of this run, in the right channel and whole.
    fn see(&mut self, channel: usize, seq: u64, from: Option<(u32, u32)>) {
        let reading = &mut self.readings[channel];
        if seq != reading.last_seq + 1 {
            self.verdict.wrong += 1;
        }
        reading.last_seq = seq;
        let Some((sender, counter)) = from else {
            self.verdict.wrong += 1;
            return;
        };
        let places = &mut self.places[sender as usize];
        if places.len() <= counter as usize {
            places.resize(counter as usize + 1, 0);
        }
        if places[counter as usize] != 0 {
            self.verdict.duplicated += 1;
        } else {
            // As in the ledger: no channel of a benchmark has 2^32 messages.
            places[counter as usize] = u32::try_from(seq).unwrap_or(u32::MAX);
        }
    }

    /// Looks for all that was acknowledged to a sender since the last time.
    fn look_for(&mut self, sender: usize, book: &Book) {
        let from = self.looked_for[sender];
        for (counter, promised) in book.ledger.iter_from(from) {
            self.looked_for[sender] = counter + 1;
            match self.places[sender].get(counter as usize).copied().unwrap_or(0) {
                0 => self.verdict.lost += 1,
                place if u64::from(place) == promised => {}
                _ if self.may_merge => self.merged += 1,
                _ => self.verdict.wrong += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(may_merge: bool) -> (Audit, Book) {
        (Audit::new(7, (1, 1), may_merge), Book::default())
    }

    #[test]
    fn each_round_judges_what_is_new_and_every_fault_once() {
        let (mut audit, mut book) = audit(false);
        for (counter, seq) in [(0, 1), (1, 2)] {
            book.ledger.acknowledge(counter, seq);
            audit.see(0, seq, Some((0, counter)));
        }
        audit.look_for(0, &book);
        assert_eq!(audit.verdict(), Verdict::default());
        // The next round: 2 is lost, 3 is there twice, 4 was never acknowledged.
        book.ledger.acknowledge(2, 3);
        book.ledger.acknowledge(3, 4);
        for (seq, counter) in [(3, 4), (4, 3), (5, 3)] {
            audit.see(0, seq, Some((0, counter)));
        }
        for _ in 0..2 {
            audit.look_for(0, &book);
            assert_eq!(audit.verdict(), Verdict { lost: 1, duplicated: 1, wrong: 0 });
        }
    }

    #[test]
    fn gaps_foreign_messages_and_other_numbers_are_wrong() {
        let (mut audit, mut book) = audit(false);
        audit.see(0, 2, None);
        assert_eq!(audit.verdict().wrong, 2);
        audit.see(0, 3, Some((0, 0)));
        book.ledger.acknowledge(0, 9);
        audit.look_for(0, &book);
        assert_eq!((audit.verdict().wrong, audit.merged()), (3, 0));
    }

    #[test]
    fn where_histories_merge_another_number_is_counted_and_a_missing_message_is_lost_all_the_same() {
        let (mut audit, mut book) = audit(true);
        audit.see(0, 1, Some((0, 1)));
        audit.see(0, 2, Some((0, 0)));
        for (counter, seq) in [(0, 1), (1, 1), (2, 3)] {
            book.ledger.acknowledge(counter, seq);
        }
        audit.look_for(0, &book);
        assert_eq!((audit.merged(), audit.verdict()), (1, Verdict { lost: 1, ..Verdict::default() }));
    }
}
