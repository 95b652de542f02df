"""What outlives a process: bundles, histories, the event log."""

from bowerbird.store.log import EventLog, LogEvent, MemoryLog

__all__ = ["EventLog", "LogEvent", "MemoryLog"]
