//! stub
use super::FetchError;
/// Options.
#[derive(Default)]
pub struct Options;
/// get
pub async fn get(server: &str, path: &str, options: &Options) -> Result<Vec<u8>, FetchError> {
    let _ = (server, options);
    Err(FetchError::NotFound(path.into()))
}
