//! A bounded number of threads for work that mostly waits for a target. Must never begin a piece after another one failed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Does `work` on every item with at most `workers` threads; the results are in the order of the items.
///
/// # Errors
/// The first error met; pieces under way are finished, no others are begun.
pub(super) fn map<T: Sync, R: Send, E: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (done, failure) = (Mutex::new(Vec::with_capacity(items.len())), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place) else { return };
                    match work(item) {
                        Ok(result) => done.lock().push((place, result)),
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            failure.lock().get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner() {
        return Err(error);
    }
    let mut done = done.into_inner();
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_an_error_ends_it() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(map(&items, 4, |item| Ok::<_, ()>(item * 2)).unwrap()[99], 198);
        assert_eq!(map(&items, 4, |item| if *item == 50 { Err("fifty") } else { Ok(()) }), Err("fifty"));
        assert_eq!(map(&[0_u32; 0], 4, |_| Ok::<_, ()>(())).unwrap(), []);
    }
}
