//! The voices there are. To add one, write its file beside this one, and its line in [`VOICES`].

mod sine;

use crate::wire::ids::VoiceKey;

use super::voice::VoiceInfo;

/// Every shared voice, in the order in which people see them. A [`VoiceKey`] is a place in this list.
pub static VOICES: &[VoiceInfo] = &[sine::LOW, sine::MID, sine::HIGH];

/// Every voice with its key, in the order in which people see them.
pub fn voices() -> impl Iterator<Item = (VoiceKey, &'static VoiceInfo)> {
    (0..).map(VoiceKey).zip(VOICES)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_keys_are_places() {
        let ids: HashSet<_> = VOICES.iter().map(|info| info.id).collect();
        assert_eq!(ids.len(), VOICES.len());
        assert!(voices().all(|(VoiceKey(place), info)| VOICES[usize::from(place)].id == info.id));
    }

    #[test]
    fn the_published_voices_are_these() {
        let published: Vec<_> = VOICES.iter().map(|info| (info.id, info.name)).collect();
        assert_eq!(
            published,
            [("sine-220", "Low Tone (220 Hz)"), ("sine-440", "Mid Tone (440 Hz)"), ("sine-880", "High Tone (880 Hz)"),]
        );
    }
}
