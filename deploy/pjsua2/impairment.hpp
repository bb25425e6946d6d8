/* What a bad network does to packets: a pure rule, the same for the same seed. Depends on nothing but the standard
 * library. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_IMPAIRMENT_HPP
#define SIP_AGENT_IMPAIRMENT_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

namespace sip_agent {

using PacketClock = std::chrono::steady_clock;
using Packet = std::vector<char>;

/* Shares of all packets, from 0 to 1 (`reordered` to 0.5), and the longest delay. */
struct Impairments {
    double lost = 0;
    double duplicated = 0;
    double reordered = 0;
    std::chrono::microseconds jitter{0};
};

/* One direction. A packet is lost; or it is delayed by anything from 0 to `jitter`, without overtaking the one before;
 * it may come twice; and a reordered one waits until the next one has gone past it.
 *
 * Every packet draws the same four numbers whatever is switched on: the packets that one fault hits do not depend on the
 * other faults. One thread at a time. */
class Impairment {
public:
    Impairment(const Impairments& impairments, std::uint64_t seed) : impairments_(impairments), random_(seed) {
        // The packet that goes past a held one is not held itself: a larger share of the rest has to be.
        const double share = std::min(impairments.reordered, 0.5);
        hold_share_ = share / (1 - share);
    }

    void push(const void* data, std::size_t size, PacketClock::time_point now) {
        const double loss = draw(), duplication = draw(), reordering = draw(), delay = draw();
        if (loss < impairments_.lost) return;
        const auto late = std::chrono::duration_cast<PacketClock::duration>(delay * impairments_.jitter);
        last_due_ = std::max(last_due_, now + late);
        const auto* bytes = static_cast<const char*>(data);
        Arrival arrival{last_due_, Packet(bytes, bytes + size), duplication < impairments_.duplicated};
        if (!held_ && reordering < hold_share_) {
            held_ = std::move(arrival);
            return;
        }
        enqueue(std::move(arrival));
        if (!held_) return;
        held_->due = last_due_;
        enqueue(std::move(*held_));
        held_.reset();
    }

    /* Takes the next packet that is due. */
    bool pop(Packet& packet, PacketClock::time_point now) {
        if (queue_.empty() || queue_.front().due > now) return false;
        Arrival& next = queue_.front();
        if (next.twice) {
            next.twice = false;
            packet = next.packet;
        } else {
            packet = std::move(next.packet);
            queue_.pop_front();
        }
        return true;
    }

    std::optional<PacketClock::time_point> next_due() const {
        if (queue_.empty()) return std::nullopt;
        return queue_.front().due;
    }

    void clear() {
        queue_.clear();
        held_.reset();
    }

private:
    struct Arrival {
        PacketClock::time_point due;
        Packet packet;
        bool twice;
    };

    /* A queue that nobody empties fills up, and then loses what comes. */
    void enqueue(Arrival&& arrival) {
        if (queue_.size() < kMaxQueued) queue_.push_back(std::move(arrival));
    }

    /* Uniform from 0 to 1, by splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
    double draw() {
        std::uint64_t z = random_ += 0x9e3779b97f4a7c15ULL;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
    }

    static constexpr std::size_t kMaxQueued = 256;  // five seconds of sound

    const Impairments impairments_;
    double hold_share_ = 0;
    std::uint64_t random_;
    PacketClock::time_point last_due_{};
    std::deque<Arrival> queue_;  // by due time
    std::optional<Arrival> held_;
};

}  // namespace sip_agent
#endif
