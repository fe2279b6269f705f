//! Caches on their own: what is seen, going back, forks, memory, files. tests/cache_models.rs tries them in
//! models.

use mlxrt::error::{Error, Result};
use mlxrt::mlx::{self, Array, Dtype, memory, ops};
use mlxrt::nn::{Cache, CacheMeta, CacheOptions, KvCache, KvShape, Plans};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};

/// MLX counts memory by process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());
// Those that count it have MLX keep no freed buffers: it would use one again that is a little too large.

const HEADS: i32 = 2;
const DIM: i32 = 64;

fn options(bits: Option<i32>, limit: Option<i32>, keep: i32) -> CacheOptions {
    CacheOptions { bits, limit, keep, ..Default::default() }
}

/// A cache, and what its positions were given: a number each, which all elements of its rows are.
struct Tracked {
    cache: Cache,
    given: Vec<i32>,
}

/// What a cache is to do, said independently of how it does it.
#[derive(Debug, Clone, Copy)]
struct Rules {
    window: Option<i32>,
    options: CacheOptions,
}

impl Rules {
    fn new_cache(&self) -> Cache {
        let mut cache = Cache::attention(self.window);
        cache.configure(&self.options).unwrap();
        cache
    }

    /// The most positions that one sees, and how many first ones it sees for ever.
    fn reach(&self) -> (i32, i32) {
        let all = i32::MAX;
        match self.window {
            Some(window) => (window.min(self.options.limit.unwrap_or(all)), 0),
            None => (self.options.limit.unwrap_or(all), self.options.keep),
        }
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        let (size, keep) = self.reach();
        key <= query && ((key as i32) < keep || ((query - key) as i32) < size - keep)
    }
}

fn rows(numbers: &[i32], value_dim: i32) -> Array {
    let length = numbers.len() as i32;
    let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    let column = Array::from_f32(&numbers, &[1, 1, length, 1]).unwrap();
    let zeros = ops::zeros(&[1, HEADS, length, value_dim], Dtype::F32).unwrap();
    ops::add(&zeros, &column).unwrap()
}

/// The numbers of an array's rows. All elements of a row, in all heads, must be the same.
fn numbers(array: &Array) -> Vec<i32> {
    let (length, dim) = (array.dim(2) as usize, array.dim(3) as usize);
    let elements = array.to_vec_f32().unwrap();
    let heads: Vec<&[f32]> = elements.chunks(length * dim).collect();
    let number = |position: usize| {
        let first = heads[0][position * dim];
        let same = |head: &&[f32]| head[position * dim..][..dim].iter().all(|x| (x - first).abs() < 1e-2);
        assert!(heads.iter().all(same), "position {position} is torn");
        first.round() as i32
    };
    (0..length).map(number).collect()
}

/// Adds positions and checks what each of them sees.
fn add(tracked: &mut Tracked, rules: &Rules, new: &[i32]) {
    let kv = tracked.cache.kv().unwrap();
    let (length, past) = (new.len(), tracked.given.len());
    let mask = kv.mask(length as i32).unwrap();
    let (keys, values) = kv.update(rows(new, DIM), rows(new, 2 * DIM)).unwrap();
    let held = numbers(&keys);
    assert_eq!(held, numbers(&values));
    assert_eq!(kv.held() as usize, held.len());
    tracked.given.extend(new);
    assert_eq!(kv.offset() as usize, tracked.given.len());
    let mask = mask.to_array(length as i32, held.len() as i32).unwrap();
    let mask = mask.map(|mask| mask.to_vec_f32().unwrap());
    for i in 0..length {
        let shown = |key: &usize| mask.as_ref().is_none_or(|mask| mask[i * held.len() + key] != 0.0);
        let mut seen: Vec<i32> = (0..held.len()).filter(shown).map(|key| held[key]).collect();
        let expected = (0..tracked.given.len()).filter(|key| rules.sees(past + i, *key));
        let mut expected: Vec<i32> = expected.map(|key| tracked.given[key]).collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "position {} under {rules:?}", past + i);
    }
}

/// Adds a position to each in common buffers, and checks what each of them sees.
fn add_together(mut members: Vec<&mut Tracked>, rules: &Rules, first: i32) {
    let count = members.len() as i32;
    let new: Vec<i32> = (first..first + count).collect();
    let column =
        |dim| ops::reshape(&ops::swap_axes(&rows(&new, dim), 1, 2).unwrap(), &[count, HEADS, 1, dim]);
    let (keys, values) = (column(DIM).unwrap(), column(2 * DIM).unwrap());
    let mut caches: Vec<&mut KvCache> =
        members.iter_mut().map(|tracked| tracked.cache.kv().unwrap()).collect();
    let (keys, values, mask) =
        KvCache::update_together(&mut caches, &keys, &values, &mut Plans::default()).unwrap();
    let capacity = keys.dim(2) as usize;
    let mask = mask.to_array(1, capacity as i32).unwrap().map(|mask| mask.to_vec_f32().unwrap());
    for (index, tracked) in members.into_iter().enumerate() {
        let part = |array: &Array| numbers(&ops::slice(array, 0, index as i32, index as i32 + 1).unwrap());
        let (held, past) = (part(&keys), tracked.given.len());
        assert_eq!(held, part(&values));
        tracked.given.push(new[index]);
        let shown = |key: &usize| mask.as_ref().is_none_or(|mask| mask[index * capacity + key] != 0.0);
        let mut seen: Vec<i32> = (0..capacity).filter(shown).map(|key| held[key]).collect();
        let expected = (0..=past).filter(|key| rules.sees(past, *key));
        let mut expected: Vec<i32> = expected.map(|key| tracked.given[key]).collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "position {past} together under {rules:?}");
        assert_eq!(tracked.cache.offset() as usize, tracked.given.len());
    }
}

/// Random updates, rewinds, forks and journeys through `restore`, each checked against the rules.
fn explore(rules: Rules, seed: u64, steps: usize) {
    let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
    let mut pool = vec![Tracked { cache: rules.new_cache(), given: vec![] }];
    let (size, _) = rules.reach();
    let mut number = 0;
    for _ in 0..steps {
        let (many, choice) = (pool.len() > 1, random.random_range(0..pool.len()));
        let tracked = &mut pool[choice];
        let past = tracked.given.len();
        match random.random_range(0..100) {
            0..60 => {
                let long = random.random_range(0..12) == 0;
                let length = if long { random.random_range(1..300) } else { random.random_range(1..4) };
                let new: Vec<i32> = (number..number + length).collect();
                number += length;
                add(tracked, &rules, &new);
                // An interrupted pass: back to where the update began, which must always be possible.
                if random.random_range(0..5) == 0 {
                    tracked.cache.rewind(past as i32).unwrap();
                    tracked.given.truncate(past);
                }
            }
            60..75 => {
                let back = if random.random_range(0..3) == 0 { past } else { past.min(4) };
                let position = past - random.random_range(0..=back);
                let possible = tracked.cache.can_rewind(position as i32);
                assert!(possible || past as i32 > size - 1, "nothing gave way yet");
                assert_eq!(tracked.cache.rewind(position as i32).is_ok(), possible);
                if possible {
                    tracked.given.truncate(position);
                }
                assert!(!tracked.cache.can_rewind(tracked.given.len() as i32 + 1));
                assert!(!tracked.cache.can_rewind(-1));
            }
            75..90 => {
                let fork = Tracked { cache: tracked.cache.fork().unwrap(), given: tracked.given.clone() };
                if pool.len() < 5 { pool.push(fork) } else { pool[(choice + 1) % 5] = fork }
            }
            90..92 if many => {
                pool.swap_remove(choice);
            }
            92..97 => {
                let mut members: Vec<&mut Tracked> = pool.iter_mut().collect();
                members.retain_mut(|tracked| tracked.cache.kv().unwrap().can_join());
                members.retain(|_| random.random_range(0..4) > 0);
                // Several steps of the same ones, in any order but the same.
                members.sort_by_key(|_| random.random_range(0..100));
                for _ in 0..if members.is_empty() { 0 } else { random.random_range(1..5) } {
                    add_together(members.iter_mut().map(|tracked| &mut **tracked).collect(), &rules, number);
                    number += members.len() as i32;
                }
            }
            _ => tracked.cache = through_json(&tracked.cache),
        }
    }
}

fn through_json(cache: &Cache) -> Cache {
    let meta = serde_json::to_string(&cache.meta()).unwrap();
    let meta: CacheMeta = serde_json::from_str(&meta).unwrap();
    Cache::restore(&meta, cache.arrays().unwrap()).unwrap()
}

#[test]
fn every_position_sees_what_it_should_whatever_happened_before() {
    let _one = ONE.lock();
    let kinds = [
        (None, None, 0),
        (None, Some(1), 0),
        (None, Some(13), 0),
        (None, Some(13), 4),
        (None, Some(13), 12),
        (None, Some(300), 5),
        (Some(1), None, 0),
        (Some(9), None, 0),
        (Some(400), None, 0),
        (Some(9), Some(20), 3),
        (Some(20), Some(9), 3),
    ];
    for (i, (window, limit, keep)) in kinds.into_iter().enumerate() {
        for bits in [None, Some(8), Some(4)] {
            let rules = Rules { window, options: options(bits, limit, keep) };
            for seed in 0..3 {
                explore(rules, 100 * i as u64 + seed, 120);
            }
        }
    }
}

#[test]
fn bad_options_are_errors() {
    let _one = ONE.lock();
    let good = options(Some(8), Some(10), 9);
    assert!(Cache::full().configure(&good).is_ok());
    for bad in [
        CacheOptions { bits: Some(3), ..good },
        CacheOptions { group_size: 48, ..good },
        CacheOptions { limit: Some(0), ..good },
        CacheOptions { limit: Some(9), ..good },
        CacheOptions { keep: -1, ..good },
    ] {
        for mut cache in [Cache::full(), Cache::attention(Some(3)), Cache::state(1)] {
            assert!(matches!(cache.configure(&bad), Err(Error::BadArgument(_))), "{bad:?}");
        }
    }
    let mut used = Cache::full();
    used.kv().unwrap().update(rows(&[1], DIM), rows(&[1], DIM)).unwrap();
    assert!(used.configure(&good).is_err());
    // Another model's positions.
    assert!(used.kv().unwrap().update(rows(&[2], 2 * DIM), rows(&[2], DIM)).is_err());
    assert_eq!(used.offset(), 1);
}

fn noise(length: i32, dim: i32, dtype: Dtype) -> Array {
    let count = HEADS * length * dim;
    let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + length) % 1009) as f32 / 500.0 - 1.0).collect();
    ops::astype(&Array::from_f32(&values, &[1, HEADS, length, dim]).unwrap(), dtype).unwrap()
}

/// Adds positions and computes them.
fn feed(cache: &mut Cache, length: i32, dims: [i32; 2], dtype: Dtype) {
    let [keys, values] = dims.map(|dim| noise(length, dim, dtype));
    let (keys, values) = cache.kv().unwrap().update(keys, values).unwrap();
    mlx::eval([&keys, &values]).unwrap();
}

#[test]
fn memory_follows_the_formula() {
    let _one = ONE.lock();
    memory::set_cache_limit(0).unwrap();
    // Row widths of 64 and 32, of 96, which only groups of 32 divide, and of 40, which none does.
    for (dims, dtype) in [([64, 32], Dtype::F32), ([128, 96], Dtype::BF16), ([40, 64], Dtype::F16)] {
        for bits in [None, Some(8), Some(4)] {
            for (window, limit) in [(None, None), (Some(70), None), (Some(600), None), (None, Some(300))] {
                let rules = Rules { window, options: options(bits, limit, 3 * limit.map_or(0, |_| 1)) };
                let shape = KvShape { heads: HEADS, key_dim: dims[0], value_dim: dims[1], dtype };
                let mut cache = rules.new_cache();
                let before = memory::active().unwrap();
                let mut positions = 0;
                for length in [1, 1, 254, 1, 1, 256, 80, 1, 1, 512, 1, 300, 2, 1] {
                    feed(&mut cache, length, dims, dtype);
                    positions += length;
                    let grown = memory::active().unwrap() - before;
                    let formula = cache.kv().unwrap().bytes_for(shape, positions, length);
                    let what = format!("{positions} positions of {shape:?}, {rules:?}");
                    assert_eq!(grown, formula, "{what}");
                    assert_eq!(cache.bytes(), formula, "{what}");
                    assert_eq!(cache.bytes_for(positions, length), Some(formula), "{what}");
                }
                drop(cache);
                assert_eq!(memory::active().unwrap(), before);
            }
        }
    }
    // The formula itself, by hand: 2 heads, 256 positions, 64 + 64 numbers.
    let shape = KvShape { heads: 2, key_dim: 64, value_dim: 64, dtype: Dtype::F16 };
    let bytes = |bits, positions| {
        let mut cache = Cache::full();
        cache.configure(&options(bits, None, 0)).unwrap();
        cache.kv().unwrap().bytes_for(shape, positions, 1)
    };
    assert_eq!(bytes(None, 1), 2 * 256 * 128 * 2);
    assert_eq!(bytes(Some(8), 257), 2 * 512 * (128 + 2 * 2 * 2));
    assert_eq!(bytes(Some(4), 256), 2 * 256 * (64 + 2 * 2 * 2));
}

#[test]
fn a_step_writes_in_place() {
    let _one = ONE.lock();
    memory::set_cache_limit(0).unwrap();
    for (window, limit) in [(None, None), (Some(2000), None), (None, Some(2000))] {
        for bits in [None, Some(8)] {
            let rules = Rules { window, options: options(bits, limit, limit.map_or(0, |_| 4)) };
            let mut cache = rules.new_cache();
            for length in [2030, 1, 1] {
                feed(&mut cache, length, [DIM, DIM], Dtype::F32);
            }
            for step in 0..5 {
                let before = memory::active().unwrap();
                memory::reset_peak().unwrap();
                // Only the buffers are computed, not what attention would get.
                cache.kv().unwrap().update(noise(1, DIM, Dtype::F32), noise(1, DIM, Dtype::F32)).unwrap();
                mlx::eval(cache.arrays().unwrap().iter().map(|(_, array)| array)).unwrap();
                let extra = memory::peak().unwrap() - before;
                let wrapped = limit.is_some() || window.is_some();
                // Arrays of a ring that went round are put in order for this look at them.
                let limit = if wrapped { cache.bytes() + (1 << 16) } else { 1 << 16 };
                assert!(extra < limit, "step {step} of {rules:?}: {extra} bytes, {} held", cache.bytes());
            }
        }
    }
}

fn distinct_bytes(caches: &[&Cache]) -> usize {
    let mut pieces: Vec<(usize, usize)> = caches.iter().flat_map(|cache| cache.pieces()).collect();
    pieces.sort_unstable();
    pieces.dedup();
    pieces.iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn forks_share_memory() {
    let _one = ONE.lock();
    memory::set_cache_limit(0).unwrap();
    for bits in [None, Some(8), Some(4)] {
        for limit in [None, Some(2000)] {
            let rules = Rules { window: None, options: options(bits, limit, 0) };
            let before = memory::active().unwrap();
            let held = || memory::active().unwrap() - before;
            let mut first = rules.new_cache();
            feed(&mut first, 1000, [DIM, DIM], Dtype::F32);
            let whole = held();
            let mut forks: Vec<Cache> = (0..4).map(|_| first.fork().unwrap()).collect();
            assert_eq!(held(), whole, "a fork takes nothing");
            let small = whole / 4; // 256 positions of 1024
            for (i, fork) in forks.iter_mut().enumerate() {
                feed(fork, 3, [DIM, DIM], Dtype::F32);
                assert_eq!(held(), whole + (i + 1) * small);
            }
            // A fork of a fork shares both parts, the small one without its room.
            let mut deeper = forks[0].fork().unwrap();
            feed(&mut deeper, 1, [DIM, DIM], Dtype::F32);
            let all: Vec<&Cache> = forks.iter().chain([&first, &deeper]).collect();
            assert_eq!(held(), distinct_bytes(&all));
            assert!(held() < whole + 6 * small);
            // The last holder has one buffer again when it next grows.
            drop((forks, deeper));
            feed(&mut first, 3, [DIM, DIM], Dtype::F32);
            assert_eq!(first.pieces().count(), 1);
            assert_eq!(held(), whole);
        }
    }
    // Rings and states share until one of them changes.
    let mut ring = Cache::attention(Some(50));
    feed(&mut ring, 50, [DIM, DIM], Dtype::F32);
    let mut fork = ring.fork().unwrap();
    assert_eq!(distinct_bytes(&[&ring, &fork]), ring.bytes());
    feed(&mut fork, 1, [DIM, DIM], Dtype::F32);
    assert_eq!(distinct_bytes(&[&ring, &fork]), 2 * ring.bytes());
}

#[test]
fn states_know_their_position_and_fork() {
    let _one = ONE.lock();
    let mut cache = Cache::state(2);
    assert!(cache.bytes_for(5, 1).is_none());
    for slot in 0..2 {
        cache.recurrent().unwrap().set(slot, noise(1, DIM, Dtype::F32));
    }
    cache.recurrent().unwrap().advance(5);
    let mut fork = cache.fork().unwrap();
    assert_eq!(distinct_bytes(&[&cache, &fork]), cache.bytes());
    fork.recurrent().unwrap().set(0, noise(2, DIM, Dtype::F32));
    fork.recurrent().unwrap().advance(1);
    assert_eq!((cache.offset(), fork.offset()), (5, 6));
    assert_eq!(cache.recurrent().unwrap().get(0).unwrap().dim(2), 1);
    assert!(fork.can_rewind(0) && fork.can_rewind(6) && !fork.can_rewind(5));
    assert!(fork.rewind(5).is_err() && fork.offset() == 6);
    fork.rewind(0).unwrap();
    assert!(fork.recurrent().unwrap().get(0).is_none() && fork.offset() == 0);
    let again = through_json(&cache);
    assert_eq!((again.offset(), again.bytes()), (5, cache.bytes()));
    assert_eq!(again.arrays().unwrap().len(), 2);
    assert!(cache.expect_like(&fork).is_ok() && cache.expect_like(&Cache::state(1)).is_err());
}

/// A saved cache with one thing wrong.
fn broken(
    cache: &Cache,
    change: impl FnOnce(&mut serde_json::Value, &mut Vec<(String, Array)>),
) -> Result<Cache> {
    let mut meta = serde_json::to_value(cache.meta()).unwrap();
    let mut arrays = cache.arrays().unwrap();
    change(&mut meta, &mut arrays);
    let meta = serde_json::from_value(meta).map_err(|error| Error::BadArgument(error.to_string()))?;
    Cache::restore(&meta, arrays)
}

#[test]
fn broken_files_are_errors() {
    let _one = ONE.lock();
    let mut state = Cache::state(1);
    state.recurrent().unwrap().set(0, noise(1, DIM, Dtype::F32));
    state.recurrent().unwrap().advance(5);
    let mut caches = vec![state];
    for (window, limit, bits) in
        [(None, None, None), (Some(9), None, Some(8)), (None, Some(9), Some(4)), (None, Some(40), None)]
    {
        let rules = Rules { window, options: options(bits, limit, limit.map_or(0, |_| 2)) };
        let mut cache = rules.new_cache();
        feed(&mut cache, 20, [DIM, DIM], Dtype::F32);
        feed(&mut cache, 1, [DIM, DIM], Dtype::F32);
        caches.push(cache);
    }
    for cache in &caches {
        assert!(broken(cache, |_, _| ()).is_ok());
        let is_bad = |what: &str, result: Result<Cache>| match result {
            Err(Error::BadArgument(text)) => assert!(!text.is_empty()),
            other => panic!("{what} of {:?} gave {other:?}", cache.meta()),
        };
        is_bad("a missing array", broken(cache, |_, arrays| drop(arrays.pop())));
        is_bad("an array too many", broken(cache, |_, arrays| arrays.push(arrays[0].clone())));
        is_bad("another name", broken(cache, |_, arrays| arrays[0].0 = "other".into()));
        is_bad("another rank", broken(cache, |_, arrays| arrays[0].1 = Array::scalar(1.0).unwrap()));
        is_bad(
            "another type",
            broken(cache, |_, arrays| {
                arrays[0].1 = ops::astype(&arrays[0].1, Dtype::I32).unwrap();
            }),
        );
        is_bad(
            "another batch",
            broken(cache, |_, arrays| {
                arrays[0].1 = ops::concatenate(&[&arrays[0].1, &arrays[0].1], 0).unwrap();
            }),
        );
        for number in [-1, 0, i64::from(i32::MAX), i64::MAX] {
            is_bad("the offset", broken(cache, |meta, _| meta["offset"] = number.into()));
        }
        if matches!(cache, Cache::State(_)) {
            is_bad("slots", broken(cache, |meta, _| meta["slots"] = 1_000_000_000_000_u64.into()));
            continue;
        }
        for (key, values) in [("held", [-1, 0, 22]), ("window", [-1, 0, i64::MAX])] {
            for number in values {
                is_bad(key, broken(cache, |meta, _| meta[key] = number.into()));
            }
        }
        for key in ["heads", "key_dim", "value_dim"] {
            for number in [-1, 0, 1, i64::from(i32::MAX)] {
                is_bad(key, broken(cache, |meta, _| meta["shape"][key] = number.into()));
            }
        }
        is_bad("no shape", broken(cache, |meta, _| meta["shape"] = serde_json::Value::Null));
        is_bad("the type", broken(cache, |meta, _| meta["shape"]["dtype"] = "f16".into()));
        is_bad("the type", broken(cache, |meta, _| meta["shape"]["dtype"] = "other".into()));
        is_bad("the bits", broken(cache, |meta, _| meta["options"]["bits"] = 5.into()));
        is_bad("the kind", broken(cache, |meta, _| meta["kind"] = "else".into()));
        let other = Cache::attention(Some(7));
        assert!(other.expect_like(cache).is_err());
    }
}
