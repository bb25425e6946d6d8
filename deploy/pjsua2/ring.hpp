/* A ring of fixed-size frames between exactly two threads. Depends on nothing but the standard library, so that it can
 * be compiled and hammered alone. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_RING_HPP
#define SIP_AGENT_RING_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace sip_agent {

/* One producer thread, one consumer thread, no lock, no allocation after construction.
 *
 * Frames are numbered from 0 and never renumbered (64 bits: 11 billion years of 20 ms). Four indexes tell the story:
 *
 *     released_ <= claimed_ <= written_,   written_ - released_ <= capacity
 *
 * The consumer *claims* a frame (compare-and-swap), copies it out, then *releases* its slot. The producer can flush():
 * it moves claimed_ to written_ with the same compare-and-swap. So each frame is either popped or flushed, never both,
 * flush() knows exactly how many it dropped, and the consumer sees the empty ring on its very next pop. A slot that the
 * consumer is still copying stays unreleased and is not overwritten; flushed slots nobody copies are reused at once. */
class FrameRing {
public:
    FrameRing(std::size_t frame_bytes, std::size_t capacity)
        : frame_bytes_(frame_bytes),
          capacity_(std::max<std::size_t>(capacity, 1)),
          slots_(new unsigned char[frame_bytes_ * capacity_]) {}

    FrameRing(const FrameRing&) = delete;
    FrameRing& operator=(const FrameRing&) = delete;

    std::size_t frame_bytes() const { return frame_bytes_; }
    std::size_t capacity() const { return capacity_; }

    /* Either thread. Frames ever written; frames ever popped or flushed; frames waiting. */
    std::uint64_t written() const { return written_.load(std::memory_order_acquire); }
    std::uint64_t claimed() const { return claimed_.load(std::memory_order_acquire); }
    std::size_t size() const {
        const std::uint64_t claimed = claimed_.load(std::memory_order_acquire);  // first: it never overtakes written_
        return static_cast<std::size_t>(written_.load(std::memory_order_acquire) - claimed);
    }

    /* Producer. Appends up to `count` frames; returns how many found room. */
    std::size_t write(const void* frames, std::size_t count) {
        const std::uint64_t begin = written_.load(std::memory_order_relaxed);
        const std::size_t accepted = std::min(count, capacity_ - static_cast<std::size_t>(begin - reusable_up_to()));
        if (accepted == 0) return 0;
        const Span span = at(begin, accepted);
        const auto* source = static_cast<const unsigned char*>(frames);
        std::memcpy(span.first, source, span.first_bytes);
        std::memcpy(slots_.get(), source + span.first_bytes, span.wrapped_bytes);
        written_.store(begin + accepted, std::memory_order_release);
        return accepted;
    }

    /* Producer. Has `fill(slot)` write one frame where it belongs; returns false if there is no room for it. */
    template <typename Fill>
    bool write_one(Fill fill) {
        const std::uint64_t index = written_.load(std::memory_order_relaxed);
        if (index - reusable_up_to() == capacity_) return false;
        fill(at(index, 1).first);
        written_.store(index + 1, std::memory_order_release);
        return true;
    }

    /* Producer. Drops every frame the consumer has not claimed; returns how many. */
    std::size_t flush() {
        const std::uint64_t end = written_.load(std::memory_order_relaxed);
        std::uint64_t begin = claimed_.load(std::memory_order_acquire);
        while (!claimed_.compare_exchange_weak(begin, end, std::memory_order_acq_rel, std::memory_order_acquire)) {
        }
        if (begin != flushed_end_) flushed_begin_ = begin;  // else it continues the last flush: nothing claimed between
        flushed_end_ = end;
        return static_cast<std::size_t>(end - begin);
    }

    /* Consumer. Copies up to `count` frames out, oldest first; returns how many. */
    std::size_t read(void* frames, std::size_t count) {
        std::uint64_t begin = claimed_.load(std::memory_order_acquire);
        std::size_t taken;
        do {  // repeats only when flush() came between
            taken = std::min(count, static_cast<std::size_t>(written_.load(std::memory_order_acquire) - begin));
            if (taken == 0) return 0;
        } while (!claimed_.compare_exchange_weak(begin, begin + taken, std::memory_order_acq_rel,
                                                 std::memory_order_acquire));
        const Span span = at(begin, taken);
        auto* target = static_cast<unsigned char*>(frames);
        std::memcpy(target, span.first, span.first_bytes);
        std::memcpy(target + span.first_bytes, slots_.get(), span.wrapped_bytes);
        released_.store(begin + taken, std::memory_order_release);
        return taken;
    }

private:
    /* `count` frames in storage: a first run, and what wrapped around to the start of the slots. */
    struct Span {
        unsigned char* first;
        std::size_t first_bytes;
        std::size_t wrapped_bytes;
    };

    Span at(std::uint64_t index, std::size_t count) const {
        const std::size_t slot = static_cast<std::size_t>(index % capacity_);
        const std::size_t first = std::min(count, capacity_ - slot);
        return {slots_.get() + slot * frame_bytes_, first * frame_bytes_, (count - first) * frame_bytes_};
    }

    /* Slots of frames below this index may be overwritten. What was flushed counts as soon as the consumer has released
     * everything it claimed before the flush: from then on it cannot be copying a flushed frame. */
    std::uint64_t reusable_up_to() {
        const std::uint64_t released = released_.load(std::memory_order_acquire);
        reusable_ = std::max({reusable_, released, released >= flushed_begin_ ? flushed_end_ : 0});
        return reusable_;
    }

    // Close together, not a cache line for each thread: the two take turns, 20 ms apart, and find no line warm.
    const std::size_t frame_bytes_;
    const std::size_t capacity_;
    const std::unique_ptr<unsigned char[]> slots_;
    std::atomic<std::uint64_t> written_{0};   // producer
    std::atomic<std::uint64_t> claimed_{0};   // both
    std::atomic<std::uint64_t> released_{0};  // consumer
    std::uint64_t flushed_begin_ = 0;         // producer only, as are the next two
    std::uint64_t flushed_end_ = 0;
    std::uint64_t reusable_ = 0;
};

}  // namespace sip_agent
#endif
