//! Memory that the kernel may have back.

/// Unmaps the pages of this program's code, which come back from the page cache when they are run.
///
/// Reading the configuration, the command line and the first logins touch code that serving does not;
/// the kernel maps sixteen pages around each of it. After the start that is a third of what an idle
/// pgpool holds (1.4 MB, measured as Pss with 1,000 idle clients). What is run next costs a minor fault
/// per 64 kB, some hundred microseconds in all.
pub fn release_start_code() {
    // SAFETY: `program` is called with valid entries before the call returns, and keeps none of them.
    unsafe { libc::dl_iterate_phdr(Some(program), std::ptr::null_mut()) };
}

/// The first entry is the program itself; any other return value than 0 ends the list.
unsafe extern "C" fn program(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller is dl_iterate_phdr, which passes a valid entry with `dlpi_phnum` headers.
    let (base, headers) = unsafe {
        let info = &*info;
        let count = usize::from(info.dlpi_phnum);
        (
            info.dlpi_addr,
            std::slice::from_raw_parts(info.dlpi_phdr, count),
        )
    };
    let code = headers.iter().filter(|header| {
        header.p_type == libc::PT_LOAD
            && header.p_flags & libc::PF_X != 0
            && header.p_flags & libc::PF_W == 0
    });
    for header in code {
        let (start, length) = (base + header.p_vaddr, header.p_memsz);
        // Pages that lie wholly in the segment; neighbours of other segments are not touched.
        let first = start.next_multiple_of(PAGE);
        let last = (start + length) / PAGE * PAGE;
        let (Ok(at), Ok(bytes)) = (
            usize::try_from(first),
            usize::try_from(last.saturating_sub(first)),
        ) else {
            continue;
        };
        // SAFETY: these pages are code mapped from the program's file and never written to, so what a
        // later fault reads is what was there. Failure changes nothing and needs no answer.
        unsafe { libc::madvise(at as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
    }
    1
}

/// Larger than a real page would only leave some pages mapped.
const PAGE: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_after_its_code_was_unmapped() {
        release_start_code();
        assert_eq!("3".parse::<u8>(), Ok(3));
        release_start_code();
    }
}
