//! What can go wrong with sound. No fault here is a listener's: they send no audio.

/// A fault of the audio floor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The Opus library refused a setting or a frame, or had no memory.
    #[error("opus encoder: {0}")]
    Opus(#[from] opus::Error),
}
