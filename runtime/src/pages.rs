//! Pages of the key-value cache: a free list with reference counts, so that sequences can share a prefix.

/// Pages `0..count`.
#[derive(Clone, Debug)]
pub struct PagePool {
    /// How many sequences hold each page.
    holders: Vec<u32>,
    /// Pages nobody holds; the next one last.
    free: Vec<i32>,
}

impl PagePool {
    /// All free.
    pub fn new(count: usize) -> PagePool {
        PagePool { holders: vec![0; count], free: (0..count as i32).rev().collect() }
    }

    /// How many pages are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// How many pages there are.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Takes a free page.
    pub fn take(&mut self) -> Option<i32> {
        let page = self.free.pop()?;
        self.holders[page as usize] = 1;
        Some(page)
    }

    /// One more holder of a page.
    ///
    /// # Panics
    /// When nobody holds it.
    pub fn share(&mut self, page: i32) {
        assert!(self.holders[page as usize] > 0, "page {page} is free");
        self.holders[page as usize] += 1;
    }

    /// How many hold a page.
    pub fn holders(&self, page: i32) -> u32 {
        self.holders[page as usize]
    }

    /// Whether more than one holds it, so that it must be copied before it is written.
    pub fn is_shared(&self, page: i32) -> bool {
        self.holders[page as usize] > 1
    }

    /// One holder less; the last one frees the page.
    ///
    /// # Panics
    /// When nobody holds it.
    pub fn release(&mut self, page: i32) {
        let holders = &mut self.holders[page as usize];
        *holders = holders.checked_sub(1).expect("a released page was held");
        if *holders == 0 {
            self.free.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_when_the_last_holder_leaves() {
        let mut pool = PagePool::new(2);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!((a, b, pool.take(), pool.free()), (0, 1, None, 0));
        pool.share(a);
        pool.release(a);
        assert!(!pool.is_shared(a) && pool.free() == 0);
        pool.release(a);
        assert_eq!((pool.free(), pool.take()), (1, Some(0)));
    }
}
