/* The agent's speech on its way to the bridge: a ring of frames plus the rules of starting, pausing and running dry.
 * Depends on nothing but the standard library. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_PLAYOUT_HPP
#define SIP_AGENT_PLAYOUT_HPP

#include "ring.hpp"

namespace sip_agent {

/* A number that one thread counts up and any thread reads: no locked instruction needed. */
class Counter {
public:
    void add(std::uint64_t n = 1) {
        value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{0};
};

/* Ticks that the clock of the bridge left out, and will never make up for: its thread counts them. */
inline Counter& skipped_clock_ticks() {
    static Counter ticks;
    return ticks;
}

/* One producer thread writes, flushes, finishes and pauses; the clock thread asks for next() once per tick.
 *
 * A *stream* begins with the first frame after nothing was playing, and ends where finish() or flush() said so, or with
 * a gap of more than `gap_limit` empty ticks. It is preceded by `cushion` ticks of silence, so that a producer whose
 * next frame comes a little late does not run dry. An empty tick inside a stream is an underrun, but that is known only
 * when the stream goes on: until then it may be its end. */
class Playout {
public:
    Playout(std::size_t frame_bytes, std::size_t capacity, unsigned gap_limit, unsigned cushion)
        : ring_(frame_bytes, capacity), gap_limit_(gap_limit), cushion_(cushion) {}

    /* Producer. */
    std::size_t write(const void* frames, std::size_t count) { return ring_.write(frames, count); }

    /* Producer. Drops what is queued and ends the stream; the next tick is silent. */
    std::size_t flush() {
        const std::size_t dropped = ring_.flush();
        flushed_.add(dropped);
        finish();
        return dropped;
    }

    /* Producer. The stream ends after the frames queued so far. */
    void finish() { finished_at_.store(ring_.written(), std::memory_order_release); }

    /* Producer. Silence while on, the queue is kept; no gap is counted. */
    void pause(bool on) { paused_.store(on, std::memory_order_release); }

    std::size_t frame_bytes() const { return ring_.frame_bytes(); }
    std::size_t capacity() const { return ring_.capacity(); }
    std::size_t queued() const { return ring_.size(); }
    std::uint64_t written() const { return ring_.written(); }
    std::uint64_t flushed() const { return flushed_.get(); }
    /* Frames handed to the bridge; exact on the producer's thread, because only that one flushes. */
    std::uint64_t sent() const { return ring_.claimed() - flushed_.get(); }
    std::uint64_t underruns() const { return underruns_.get(); }
    std::uint64_t pauses() const { return pauses_.get(); }
    /* Silent ticks of those pauses, the cushion after each included. */
    std::uint64_t pause_ticks() const { return pause_ticks_.get(); }

    /* Clock thread. Fills `frame`, or returns false for a tick of silence. */
    bool next(void* frame) {
        if (paused_.load(std::memory_order_acquire)) return false;
        const bool ended = finished_at_.load(std::memory_order_acquire) == ring_.claimed();
        if (ring_.size() == 0) {
            note_empty_tick(ended);
            return false;
        }
        if (state_ == State::kIdle || (state_ == State::kPlaying && ended)) begin_stream();
        if (silence_left_ > 0) {
            --silence_left_;
            return false;
        }
        if (ring_.read(frame, 1) == 0) return false;  // flushed since we looked
        underruns_.add(gap_);
        gap_ = 0;
        state_ = State::kPlaying;
        return true;
    }

private:
    enum class State { kIdle, kStarting, kPlaying };

    void begin_stream() {
        if (abandoned_) {
            pauses_.add();
            pause_ticks_.add(gap_ + cushion_);
        }
        abandoned_ = false;
        gap_ = 0;
        silence_left_ = cushion_;
        state_ = State::kStarting;
    }

    void note_empty_tick(bool ended) {
        if (ended) abandoned_ = false;
        if (abandoned_) ++gap_;
        if (state_ == State::kIdle) return;
        if (!ended && state_ == State::kPlaying && ++gap_ <= gap_limit_) return;
        abandoned_ = !ended && state_ == State::kPlaying;  // a pause if more audio comes, else the unmarked end
        state_ = State::kIdle;
        silence_left_ = 0;
        if (!abandoned_) gap_ = 0;
    }

    FrameRing ring_;
    const unsigned gap_limit_;
    const unsigned cushion_;
    Counter flushed_;                             // producer writes
    std::atomic<std::uint64_t> finished_at_{0};   // producer writes
    std::atomic<bool> paused_{false};             // producer writes
    Counter underruns_;                           // the clock thread writes this and all below
    Counter pauses_;
    Counter pause_ticks_;
    State state_ = State::kIdle;
    unsigned silence_left_ = 0;
    unsigned gap_ = 0;
    bool abandoned_ = false;
};

}  // namespace sip_agent
#endif
