//! stub
use super::FetchError;
use meta_lava_formats::tree::Tree;
/// read
pub async fn read_tree(server: &str, path: &str) -> Result<Tree, FetchError> {
    let _ = server;
    Err(FetchError::NotFound(path.into()))
}
