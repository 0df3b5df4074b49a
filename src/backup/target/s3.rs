//! A bucket of an S3-compatible store, by opendal's service. Path style, one endpoint, the given keys and nothing else: must
//! never look for keys, regions or endpoints anywhere, neither in files nor in the environment nor on the network.

use std::fmt;
use std::time::Duration;

use opendal::layers::RetryLayer;
use opendal::{HttpTransporter, OperationContext, Operator, services};

use super::TargetError;
use super::fault::Patience;
use super::http::{Dialect, HttpClient};
use crate::limits::BACKUP_RETRY_FIRST_MS;

/// Where a bucket is, and who we are there.
#[derive(Clone, Default)]
pub struct S3Settings {
    /// The store's URL, `https://` or `http://`.
    pub endpoint: String,
    /// The bucket. It has to be there.
    pub bucket: String,
    /// The region; empty for stores without regions.
    pub region: String,
    /// A folder within the bucket; empty: the bucket itself.
    pub prefix: String,
    /// The access key's id.
    pub access_key: String,
    /// The access key's secret.
    pub secret: String,
    /// Certificates (PEM) of an authority that is trusted for this store beside those that the machine trusts; may be empty.
    pub ca_pem: String,
    /// How long it is waited for.
    pub patience: Patience,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, bucket, prefix, .. } = self;
        write!(f, "S3Settings({endpoint}, {bucket}/{prefix})")
    }
}

/// The store, ready to be asked. Nothing is sent yet.
pub(super) fn operator(settings: &S3Settings) -> Result<Operator, TargetError> {
    let endpoint = settings.endpoint.trim_end_matches('/');
    if settings.bucket.is_empty() {
        return Err(TargetError::BadSettings("the bucket has no name".to_owned()));
    }
    if settings.access_key.is_empty() || settings.secret.is_empty() {
        return Err(TargetError::BadSettings("an access key has an id and a secret".to_owned()));
    }
    let client = HttpClient::new(endpoint, &settings.ca_pem, Dialect::S3, settings.patience)?;
    // Stores without regions take any, and most documents say this one.
    let region = if settings.region.is_empty() { "us-east-1" } else { &settings.region };
    let builder = services::S3::default()
        .endpoint(endpoint)
        .bucket(&settings.bucket)
        .region(region)
        .root(&format!("/{}", settings.prefix.trim_matches('/')))
        .access_key_id(&settings.access_key)
        .secret_access_key(&settings.secret)
        .disable_config_load()
        .disable_ec2_metadata();
    remote(builder, client, settings.patience)
}

/// An operator over our own transport, which knows timeouts itself: what is left is to try again.
pub(super) fn remote(
    builder: impl opendal::Builder,
    client: HttpClient,
    patience: Patience,
) -> Result<Operator, TargetError> {
    let retrying = RetryLayer::new()
        .with_max_times(patience.retries)
        .with_min_delay(Duration::from_millis(BACKUP_RETRY_FIRST_MS))
        .with_jitter();
    let operator = Operator::new(builder).map_err(|e| TargetError::BadSettings(e.to_string()))?;
    let context = OperationContext::new().with_http_transport(HttpTransporter::new(client));
    Ok(operator.with_context(context).layer(retrying))
}
