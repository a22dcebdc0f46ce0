//! stub
use super::FetchError;
/// get
pub async fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    Err(FetchError::NotFound(url.into()))
}
