//! Which instructions this processor has, and what lets all of them compute alike.

use std::sync::OnceLock;

/// A set of instructions that kernels are written for, an architecture's best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // of other architectures
pub(super) enum Isa {
    /// What the compiler makes for any processor of the architecture.
    Portable,
    /// The same for aarch64, which has FMA.
    Neon,
    /// aarch64 with dot products of 8-bit integers.
    Dotprod,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with VNNI.
    Avx512Vnni,
    /// The same with AMX for 8-bit integers and bfloat16, which Linux lets a process use that asks for it.
    Amx,
}

impl Isa {
    /// The best that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Isa::Portable))
    }

    /// All that this processor has.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut found = vec![if cfg!(target_arch = "aarch64") { Isa::Neon } else { Isa::Portable }];
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            found.push(Isa::Dotprod);
        }
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                found.push(Isa::Avx2);
                if is_x86_feature_detected!("avxvnni") {
                    found.push(Isa::AvxVnni);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    found.push(Isa::Avx512);
                    if is_x86_feature_detected!("avx512vnni") {
                        found.push(Isa::Avx512Vnni);
                        if has_amx() {
                            found.push(Isa::Amx);
                        }
                    }
                }
            }
        }
        found
    }
}

/// Whether processor and system have AMX, for this process too.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    /// The processor's tiles, bfloat16 and 8-bit integers: bits of register edx of leaf 7.
    const FEATURES: u32 = 1 << 24 | 1 << 22 | 1 << 25;
    /// The system keeps the tiles' configuration and data of a thread that waits.
    const KEPT: u64 = 1 << 17 | 1 << 18;
    /// ARCH_REQ_XCOMP_PERM of asm/prctl.h, and the tiles' data.
    const REQUEST: [i64; 2] = [0x1023, 18];
    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: the function has the feature.
        unsafe { _xgetbv(0) }
    }
    // AVX-512, which was found before, has neither leaf 7 nor xsave missing.
    let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES;
    // SAFETY: as above; the call changes what this process may do and nothing else.
    has && unsafe {
        kept() & KEPT == KEPT && libc::syscall(libc::SYS_arch_prctl, REQUEST[0], REQUEST[1]) == 0
    }
}

/// Makes a function of `$work`, which is generic over whether there is FMA and `#[inline(always)]`: compiled
/// for every set of instructions, of which the caller names one.
macro_rules! for_every_isa {
    ($(#[$doc:meta])* fn $name:ident = $work:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        fn $name(isa: $crate::kernels::isa::Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            use $crate::kernels::isa::Isa;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) {
                $work::<true>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($argument: $type),*) {
                $work::<true>($($argument),*)
            }
            match isa {
                // SAFETY: the processor has it.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Avx512Vnni | Isa::Amx => unsafe { avx512($($argument),*) },
                // SAFETY: the processor has it.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::AvxVnni => unsafe { avx2($($argument),*) },
                _ => $work::<{ cfg!(target_arch = "aarch64") }>($($argument),*),
            }
        }
    };
}
pub(super) use for_every_isa;

/// The sum of the lanes, a power of two of them, halves added to halves.
#[inline(always)]
pub(super) fn sum<const LANES: usize>(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
