//! Renews this node's certificate for the pair, long before it ends. The node makes it itself, tells the active of it in its
//! hello, and shows it as soon as the pair's settings name it. Must never show what they do not name yet: nobody would let
//! this node in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::context::Context;
use super::pki::{Fingerprint, PairPki, PeerTls, PkiError, Validity};
use super::service::PairHandle;
use super::wire::Class;
use super::{DeskError, PairSettings};
use crate::limits;
use crate::node::Node;

/// What of a renewal the parts of a node share.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// The certificate that waits for the settings to name it.
    next: Mutex<Option<Fingerprint>>,
    validity: Mutex<Option<Validity>>,
    /// An operator wants a new one now.
    asked: AtomicBool,
    /// Another member said that the settings name another certificate than ours.
    refused: AtomicBool,
    /// Since when the settings are known to name the one that waits.
    named_since: Mutex<Option<Instant>>,
    look: Notify,
}

impl Renewal {
    /// The certificate that this node wants to show.
    pub(super) fn next(&self) -> Option<Fingerprint> {
        *self.next.lock()
    }

    /// Until when the certificates are valid; `None` without a pair.
    pub(super) fn validity(&self) -> Option<Validity> {
        *self.validity.lock()
    }

    /// Another member knows newer settings, in which our certificate is not ours any more. It can only be the one that
    /// waits: but for that, nobody changes what the settings say of it.
    pub(super) fn refused(&self) {
        if self.next().is_some() {
            self.refused.store(true, Ordering::Release);
            self.look.notify_one();
        }
    }

    /// There is a certificate now: its validity is to be known.
    pub(super) fn look_again(&self) {
        self.look.notify_one();
    }

    /// Whether the settings have named the certificate that waits for so long that the members which learn of settings by
    /// dialling have dialled. Whoever has not would refuse the new one, and could then learn of it from nobody but the
    /// other node.
    fn is_known(&self, named: bool) -> bool {
        let mut since = self.named_since.lock();
        if !named {
            *since = None;
            return false;
        }
        since.get_or_insert_with(Instant::now).elapsed() >= Duration::from_millis(limits::PAIR_RENEW_SETTLE_MS)
    }

    fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.look.notify_one();
    }
}

/// Renews the certificate when it is time, or when somebody asks, as long as the node runs.
pub(super) async fn keep_valid(context: Arc<Context>, node: Node) {
    let mut warned: Option<Instant> = None;
    loop {
        let failed = match look(&context, &node).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "this node's certificate for the pair cannot be renewed");
                true
            }
        };
        let now = (context.now_ms() / 1_000) as i64;
        let trouble = context.renewal.validity().and_then(|validity| Some((validity, validity.trouble(now)?)));
        let again = Duration::from_secs(limits::PAIR_RENEW_WARN_SECONDS);
        if let Some((validity, advice)) = trouble
            && warned.is_none_or(|at| at.elapsed() >= again)
        {
            warned = Some(Instant::now());
            tracing::warn!(advice, "{}", validity.text(now));
        }
        let pending = context.renewal.next().is_some() && !failed;
        let pause = if pending {
            Duration::from_millis(limits::PAIR_RENEW_PENDING_MS)
        } else {
            Duration::from_secs(limits::PAIR_RENEW_LOOK_SECONDS)
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.renewal.look.notified() => {}
        }
    }
}

/// One step: makes a certificate if it is time, tells the active of it, shows it if the settings name it.
async fn look(context: &Context, node: &Node) -> Result<(), PkiError> {
    let renewal = &context.renewal;
    let Some(tls @ PeerTls::Certificates(_)) = context.tls.get() else { return Ok(()) };
    let dir = context.place.data.join("pair");
    let Some(pki) = PairPki::load(&dir)? else { return Ok(()) };
    let now = (context.now_ms() / 1_000) as i64;
    *renewal.validity.lock() = Some(pki.validity());
    let settings = context.settings.refresh(node).unwrap_or_else(|_| context.settings.latest());
    let Some(named) = named(&settings, context) else { return Ok(()) };
    let asked = renewal.asked.swap(false, Ordering::AcqRel);
    let mut next = PairPki::next(&dir)?;
    if next.is_none() && (asked || pki.validity().is_due(now)) {
        next = Some(pki.prepare(&dir, now)?);
        renewal.refused.store(false, Ordering::Release);
        tracing::info!("a new certificate for the pair is made; it is shown as soon as the pair's settings name it");
    }
    *renewal.next.lock() = next;
    let Some(next) = next else { return Ok(()) };
    let known = renewal.is_known(named == next);
    if known || renewal.refused.swap(false, Ordering::AcqRel) {
        let renewed = PairPki::install_next(&dir, tls)?;
        *renewal.next.lock() = None;
        *renewal.validity.lock() = Some(renewed.validity());
        context.notices.say("this node shows a new certificate to the pair".to_owned(), context.now_ms());
        tracing::info!("{}", renewed.validity().text(now));
        *renewal.named_since.lock() = None;
        return Ok(());
    }
    if named == next {
        return Ok(());
    }
    // The active itself takes it into the settings; on another node the hello of any link says it.
    let active = context.driver.status().await.and_then(|status| status.active);
    if let Some(active) = active.filter(|active| *active != context.member)
        && let Err(error) = context.dial(active, Class::Control).await
    {
        tracing::debug!(%error, "the active could not be told of the new certificate yet");
    }
    Ok(())
}

/// The certificate that the settings name for this node.
fn named(settings: &PairSettings, context: &Context) -> Option<Fingerprint> {
    settings.member(context.member)?.fingerprint.as_ref().try_into().ok()
}

impl PairHandle {
    /// Gives this node a new certificate for the pair, and waits until it is shown.
    ///
    /// # Errors
    /// [`DeskError`] with what to do.
    pub async fn renew(&self) -> Result<Validity, DeskError> {
        let dir = self.context.place.data.join("pair");
        let load = || PairPki::load(&dir).map_err(DeskError::failed);
        let alone = || DeskError::new("pair_none", "this node is in no pair: there is nothing to renew");
        let before = load()?.ok_or_else(alone)?.as_allowed();
        self.context.renewal.ask();
        let until = Instant::now() + Duration::from_millis(limits::SWITCHOVER_WAIT_MS_MAX);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(limits::SWITCHOVER_LOOK_MS)).await;
            if let Some(now) = load()?.filter(|now| now.as_allowed() != before) {
                return Ok(now.validity());
            }
        }
        let text = "the new certificate is made; it is shown as soon as the active node has taken it into the pair's settings: \
                    look at `holdfast status`";
        Err(DeskError::new("pair_renewal_pending", text))
    }
}
