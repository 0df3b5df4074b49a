//! Range reads over overlay, frozen overlay and store, in both directions; and the walk over everything stored. Reads
//! only.

use std::iter::Peekable;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use super::error::ProjectionError;
use super::handle::{Applied, Shared};
use super::meta::META_KEY;
use super::overlay::Overlay;
use super::store::{ByteRange, Store};
use super::unit::{self, Rows, UnitKey};
use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::{Direction, StateHash};
use crate::limits;

/// How often a scan starts again because an overlay was frozen meanwhile, before it holds checkpoints to get through.
const TRIES: usize = 16;
/// Up to how many blocks are read one by one rather than sought.
const LISTED_BLOCKS_MAX: u64 = 64;

type Change = (Key, Option<Value>);

impl Shared {
    /// At most `limit` rows of a range: all from one state.
    pub(crate) fn scan(
        self: &Arc<Self>,
        range: RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, ProjectionError> {
        self.check()?;
        if range.start() > range.end() || limit == 0 {
            return Ok(Vec::new());
        }
        let query = Query { range, direction, limit };
        for _ in 0..TRIES {
            let (freezes, rows) = self.scan_once(&query).map_err(|e| self.fail(e))?;
            // What was read from the store may be newer than what was read from the overlay only if an overlay was
            // frozen in between.
            if self.layers.read().freezes == freezes {
                return Ok(rows);
            }
        }
        let _hold = self.hold();
        self.scan_once(&query).map(|found| found.1).map_err(|e| self.fail(e))
    }

    fn scan_once(&self, query: &Query) -> Result<(u64, Vec<(Key, Value)>), ProjectionError> {
        let (freezes, window, frozen) = {
            let layers = self.layers.read();
            (layers.freezes, query.window(&layers.overlay), layers.frozen.clone())
        };
        let frozen = frozen.as_deref().map(|frozen| query.changes(frozen)).into_iter().flatten();
        let layers =
            [(Box::new(window.into_iter()) as Changes<'_>).peekable(), (Box::new(frozen) as Changes<'_>).peekable()];
        let rows = merge(query, layers, Cursor::new(self, query))?;
        Ok((freezes, rows))
    }

    /// See [`super::Projection::full_state_hash`].
    pub(crate) fn full_state_hash(self: &Arc<Self>) -> Result<(Applied, StateHash), ProjectionError> {
        self.check()?;
        let _hold = self.hold();
        let (applied, changes) = {
            let layers = self.layers.read();
            (layers.overlay.applied, layers.overlay.rows.clone())
        };
        let mut hash = StateHash::default();
        walk(&*self.store, |key, bytes| {
            if changes.get(&key).is_none() {
                hash.add(&key, bytes);
            }
            Ok(())
        })
        .map_err(|e| self.fail(e))?;
        let mut buffer = Vec::new();
        for (key, slot) in changes.iter() {
            if let Some(value) = &slot.value {
                hash = hash.plus(StateHash::of_row(key, value, &mut buffer));
            }
        }
        Ok((applied, hash))
    }
}

type Changes<'a> = Box<dyn Iterator<Item = Change> + 'a>;

struct Query {
    range: RangeInclusive<Key>,
    direction: Direction,
    limit: usize,
}

impl Query {
    fn changes<'a>(&self, overlay: &'a Overlay) -> Changes<'a> {
        let changes = overlay.rows.range(self.range.clone()).map(|(key, slot)| (*key, slot.value.clone()));
        match self.direction {
            Direction::Up => Box::new(changes),
            Direction::Down => Box::new(changes.rev()),
        }
    }

    /// The changes up to the one that alone would fill the answer: what is copied while commits wait.
    fn window(&self, overlay: &Overlay) -> Vec<Change> {
        let mut left = self.limit;
        let until_full = |change: &Change| {
            let more = left > 0;
            left -= usize::from(more && change.1.is_some());
            more
        };
        self.changes(overlay).take_while(until_full).collect()
    }

    /// Whether `a` comes before `b` in this direction.
    fn precedes(&self, a: Key, b: Key) -> bool {
        match self.direction {
            Direction::Up => a < b,
            Direction::Down => a > b,
        }
    }
}

/// Merges the changes (newest layer first) with the stored rows.
fn merge(
    query: &Query,
    mut layers: [Peekable<Changes<'_>>; 2],
    mut stored: Cursor<'_>,
) -> Result<Vec<(Key, Value)>, ProjectionError> {
    let mut rows = Vec::with_capacity(query.limit.min(limits::STATE_SCAN_PAGE));
    let mut below = stored.next_row()?;
    while rows.len() < query.limit {
        let heads = layers.iter_mut().map(|layer| layer.peek().map(|change| change.0));
        let heads = heads.chain(std::iter::once(below.as_ref().map(|row| row.0)));
        let first = heads.flatten().reduce(|a, b| if query.precedes(b, a) { b } else { a });
        let Some(key) = first else { break };
        let mut winner = None;
        for layer in &mut layers {
            let change = layer.next_if(|change| change.0 == key);
            winner = winner.or(change.map(|change| change.1));
        }
        if let Some(row) = below.take_if(|row| row.0 == key) {
            winner = winner.or(Some(Some(row.1)));
            below = stored.next_row()?;
        }
        rows.extend(winner.flatten().map(|value| (key, value)));
    }
    Ok(rows)
}

/// The stored rows of a query, one by one.
struct Cursor<'a> {
    shared: &'a Shared,
    query: &'a Query,
    source: Source,
    rows: Rows,
    /// What is left of `rows`.
    left: std::ops::Range<usize>,
}

enum Source {
    /// These units, in the query's direction.
    Listed(std::vec::IntoIter<UnitKey>),
    /// Whatever units the store has in a range.
    Pages { rest: ByteRange, page: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>, last: Option<UnitKey>, end: bool },
}

impl<'a> Cursor<'a> {
    fn new(shared: &'a Shared, query: &'a Query) -> Self {
        let (first, last) = (query.range.start(), query.range.end());
        let source = match UnitKey::listed(first, last, LISTED_BLOCKS_MAX) {
            Some(mut units) => {
                if query.direction == Direction::Down {
                    units.reverse();
                }
                Source::Listed(units.into_iter())
            }
            None => {
                let rest = UnitKey::byte_range(UnitKey::of(first), UnitKey::of(last));
                Source::Pages { rest, page: Vec::new().into_iter(), last: None, end: false }
            }
        };
        Self { shared, query, source, rows: Rows::from([]), left: 0..0 }
    }

    fn next_row(&mut self) -> Result<Option<(Key, Value)>, ProjectionError> {
        loop {
            let place = match self.query.direction {
                Direction::Up => self.left.next(),
                Direction::Down => self.left.next_back(),
            };
            if let Some(row) = place.and_then(|place| self.rows.get(place)) {
                return Ok(Some(row.clone()));
            }
            let Some(rows) = self.next_unit()? else { return Ok(None) };
            let from = rows.partition_point(|row| row.0 < *self.query.range.start());
            let to = rows.partition_point(|row| row.0 <= *self.query.range.end());
            self.left = from..to;
            self.rows = rows;
        }
    }

    fn next_unit(&mut self) -> Result<Option<Rows>, ProjectionError> {
        let (rest, page, last, end) = match &mut self.source {
            Source::Listed(units) => return units.next().map(|unit| self.shared.unit(unit)).transpose(),
            Source::Pages { rest, page, last, end } => (rest, page, last, end),
        };
        loop {
            let Some((key, value)) = page.next() else {
                if *end {
                    return Ok(None);
                }
                let size = page_size(self.query, rest);
                let pairs = self.shared.store.scan(rest.clone(), self.query.direction, size)?;
                *end = pairs.len() < size;
                if let Some((key, _)) = pairs.last() {
                    match self.query.direction {
                        Direction::Up => rest.0 = Bound::Excluded(key.clone()),
                        Direction::Down => rest.1 = Bound::Excluded(key.clone()),
                    }
                }
                *page = pairs.into_iter();
                continue;
            };
            let (unit, part) = parse(&key)?;
            if last.replace(unit) == Some(unit) {
                continue; // another part of the unit just read
            }
            if part == 0 && !unit.is_block() && unit::part_count(unit, &value)? == 1 {
                let content = unit::join_parts(unit, &[value])?.unwrap_or_default();
                return unit::decode_rows(unit, content).map(Some);
            }
            return self.shared.unit(unit).map(Some);
        }
    }
}

/// How many pairs to read at once: about as many as can be needed.
fn page_size(query: &Query, rest: &ByteRange) -> usize {
    let in_blocks = match &rest.0 {
        Bound::Included(key) | Bound::Excluded(key) => UnitKey::parse(key).is_some_and(|(unit, _)| unit.is_block()),
        Bound::Unbounded => false,
    };
    let wanted =
        if in_blocks { query.limit / limits::STATE_BLOCK_ROWS as usize + 4 } else { query.limit.saturating_add(4) };
    wanted.min(limits::STATE_SCAN_PAGE)
}

fn parse(key: &[u8]) -> Result<(UnitKey, u16), ProjectionError> {
    UnitKey::parse(key).ok_or_else(|| {
        let key = data_encoding::HEXLOWER.encode(key);
        ProjectionError::Store { op: "decode", cause: format!("{key} is no key of this build") }
    })
}

/// Visits every stored row, encoded, in the order of keys. The store must not change meanwhile: hold checkpoints.
pub(crate) fn walk(
    store: &dyn Store,
    mut visit: impl FnMut(Key, &[u8]) -> Result<(), ProjectionError>,
) -> Result<(), ProjectionError> {
    let mut rest: ByteRange = (Bound::Excluded(META_KEY.to_vec()), Bound::Unbounded);
    let mut current: Option<(UnitKey, Vec<Vec<u8>>)> = None;
    let mut finish = |unit: Option<(UnitKey, Vec<Vec<u8>>)>| {
        let Some((unit, values)) = unit else { return Ok(()) };
        visit_unit(unit, &values, &mut visit)
    };
    loop {
        let pairs = store.scan(rest, Direction::Up, limits::STATE_SCAN_PAGE)?;
        let Some((last, _)) = pairs.last() else { break };
        rest = (Bound::Excluded(last.clone()), Bound::Unbounded);
        for (key, value) in pairs {
            let (unit, part) = parse(&key)?;
            match &mut current {
                Some((same, values)) if *same == unit && usize::from(part) == values.len() => values.push(value),
                _ if part == 0 => finish(current.replace((unit, vec![value])))?,
                _ => {
                    let cause = format!("{unit:?}: part {part} does not follow its first part");
                    return Err(ProjectionError::Store { op: "decode", cause });
                }
            }
        }
    }
    finish(current)
}

fn visit_unit(
    unit: UnitKey,
    values: &[Vec<u8>],
    visit: &mut impl FnMut(Key, &[u8]) -> Result<(), ProjectionError>,
) -> Result<(), ProjectionError> {
    let bad = |what: &str| ProjectionError::Store { op: "decode", cause: format!("{unit:?}: {what}") };
    let expected = values.first().map_or(Ok(0), |first| unit::part_count(unit, first))?;
    if usize::from(expected) != values.len() {
        return Err(bad("a part is missing"));
    }
    let content = unit::join_parts(unit, values)?.ok_or_else(|| bad("its parts do not belong together"))?;
    for (slot, bytes) in unit::raw_rows(unit, content)? {
        let key = unit.row_key(slot).ok_or_else(|| bad("a slot that no row can have"))?;
        visit(key, &bytes)?;
    }
    Ok(())
}
