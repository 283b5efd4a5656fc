//! epoll, level-triggered: one read for each event, since a second that only says "would block" costs as much.

use std::{
    fmt,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use crate::Failure;

pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl fmt::Debug for Poll {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Poll")
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

/// A socket on which something can be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) index: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Poll {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
        })
    }

    pub(crate) fn add(&self, socket: impl AsFd, index: usize) -> Result<(), Failure> {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Whether room for writing is awaited, too.
    pub(crate) fn set_writing(
        &self,
        socket: impl AsFd,
        index: usize,
        writing: bool,
    ) -> Result<(), Failure> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, writing);
        let data = epoll::EventData::new_u64(index as u64);
        epoll::modify(&self.epoll, socket, data, flags)?;
        Ok(())
    }

    /// Waits for what can be done, at most so long.
    pub(crate) fn wait(
        &mut self,
        patience: Duration,
        ready: &mut Vec<Ready>,
    ) -> Result<(), Failure> {
        self.events.clear();
        ready.clear();
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs())?,
            tv_nsec: patience.subsec_nanos().into(),
        };
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&patience),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let flags = event.flags;
            ready.push(Ready {
                index: usize::try_from(event.data.u64())?,
                // The read tells what is wrong with a broken one.
                readable: flags.intersects(
                    epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
                ),
                writable: flags.contains(epoll::EventFlags::OUT),
            });
        }
        Ok(())
    }
}
