//! The tiles of AMX.

use std::arch::asm;
use std::marker::PhantomData;

/// This thread's tiles, of the given shapes, until it is dropped. Only threads of a processor with
/// [`super::isa::Isa::Amx`] may have them.
pub(super) struct Tiles(PhantomData<*const ()>);

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// `[rows, bytes of a row]` of the first tiles; at most 16 and 64.
    pub fn new<const N: usize>(shapes: [[usize; 2]; N]) -> Self {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for (tile, [rows, bytes]) in shapes.into_iter().enumerate() {
            configuration.rows[tile] = rows as u8;
            configuration.row_bytes[tile] = bytes as u16;
        }
        // SAFETY: 64 bytes that say which shapes the tiles have.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        Tiles(PhantomData)
    }
}

impl Drop for Tiles {
    /// Else the system would save and restore them at every switch of threads.
    fn drop(&mut self) {
        // SAFETY: nothing is in them that anybody needs.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
