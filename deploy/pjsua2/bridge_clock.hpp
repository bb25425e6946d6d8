/* The clock of the conference bridge, with a file descriptor that tells when a tick is over.
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_BRIDGE_CLOCK_HPP
#define SIP_AGENT_BRIDGE_CLOCK_HPP

#include <cerrno>
#include <chrono>
#include <utility>

#include <sys/eventfd.h>
#include <unistd.h>

#include <pjsua2.hpp>

#include "pj_calls.hpp"
#include "playout.hpp"

namespace sip_agent {

/* Drives the bridge with pjmedia's own clock thread, in place of a sound device.
 *
 * The master port calls, once per tick: our get_frame(), the bridge (which mixes every port), our put_frame(). So our
 * get_frame() is where a tick begins and our put_frame() is where all frames of it have been exchanged: there the
 * eventfd is signalled. Its counter holds the ticks since it was last read.
 *
 * pjmedia's clock sleeps in whole milliseconds but adds up exact due times: a tick may come up to 1 ms early, the rate
 * does not drift, and after a stall the missed ticks follow at once, back to back; only after 500 ms it gives up on
 * them and starts afresh. */
class BridgeClock {
public:
    BridgeClock() : bridge_(pjsua_set_no_snd_dev()) {
        if (!bridge_) raise(PJ_EINVALIDOP, "BridgeClock()");
        tick_ = std::chrono::milliseconds(PJMEDIA_PIA_PTIME(&bridge_->info));
        const pj_str_t name = {const_cast<char*>("clock"), 5};
        pjmedia_port_info_init(&port_.info, &name, PJMEDIA_SIG_CLASS_APP('C', 'L', 'K'), PJMEDIA_PIA_SRATE(&bridge_->info),
                               PJMEDIA_PIA_CCNT(&bridge_->info), PJMEDIA_PIA_BITS(&bridge_->info),
                               PJMEDIA_PIA_SPF(&bridge_->info));
        port_.port_data.pdata = this;
        port_.get_frame = &BridgeClock::on_tick_begin;
        port_.put_frame = &BridgeClock::on_tick_end;
        event_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (event_fd_ < 0) raise(PJ_STATUS_FROM_OS(errno), "BridgeClock()");
    }

    ~BridgeClock() {
        stop();
        ::close(event_fd_);
    }

    BridgeClock(const BridgeClock&) = delete;
    BridgeClock& operator=(const BridgeClock&) = delete;

    /* A new master port each time: releases after 2.17 hang when a stopped one is started again. */
    void start() {
        if (master_) return;
        measuring_ = false;
        pool_ = pjsua_pool_create("bridgeclock", 1000, 1000);
        pj_status_t status = pool_ ? pjmedia_master_port_create(pool_, &port_, bridge_, 0, &master_) : PJ_ENOMEM;
        if (status == PJ_SUCCESS) status = pjmedia_master_port_start(master_);
        if (status == PJ_SUCCESS) return;
        stop();
        raise(status, "BridgeClock.start");
    }

    /* Waits for the tick in progress. Must be called before libDestroy(). */
    void stop() {
        pjmedia_master_port* master = std::exchange(master_, nullptr);
        pj_pool_t* pool = std::exchange(pool_, nullptr);
        if (!pjsua_is_alive()) return;
        register_pj_thread();
        if (master) pjmedia_master_port_destroy(master, PJ_FALSE);
        if (pool) pj_pool_release(pool);
    }

    int fileno() const { return event_fd_; }
    std::uint64_t ticks() const { return ticks_.get(); }
    /* Ticks that began more than 10 ms after their time, and the longest such delay. */
    std::uint64_t late_ticks() const { return late_ticks_.get(); }
    std::uint64_t max_lag_us() const { return max_lag_us_.load(std::memory_order_relaxed); }
    /* Ticks that never came, as the process stood still for too long for the clock to catch up. */
    std::uint64_t skipped_ticks() const { return skipped_clock_ticks().get(); }

private:
    using Clock = std::chrono::steady_clock;

    static pj_status_t on_tick_begin(pjmedia_port* port, pjmedia_frame* frame) {
        static_cast<BridgeClock*>(port->port_data.pdata)->measure_lag(Clock::now());
        frame->type = PJMEDIA_FRAME_TYPE_NONE;
        return PJ_SUCCESS;
    }

    static pj_status_t on_tick_end(pjmedia_port* port, pjmedia_frame*) {
        auto* self = static_cast<BridgeClock*>(port->port_data.pdata);
        self->ticks_.add();
        const std::uint64_t one = 1;
        // Fails only when nobody has read 2^64-2 ticks.
        [[maybe_unused]] const ssize_t written = ::write(self->event_fd_, &one, sizeof(one));
        return PJ_SUCCESS;
    }

    void measure_lag(Clock::time_point now) {
        due_ = measuring_ ? due_ + tick_ : now;
        measuring_ = true;
        const auto lag = now - due_;
        if (lag < Clock::duration::zero()) {  // the schedule is at least this early: take it as the better estimate
            due_ = now;
            return;
        }
        if (lag > kGivesUpAfter) {
            due_ = now;
            skipped_clock_ticks().add(static_cast<std::uint64_t>(lag / tick_));
        }
        const auto lag_us =
            static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(lag).count());
        if (lag > kLateAfter) late_ticks_.add();
        if (lag_us > max_lag_us()) max_lag_us_.store(lag_us, std::memory_order_relaxed);
    }

    static constexpr std::chrono::milliseconds kLateAfter{10};
    static constexpr std::chrono::milliseconds kGivesUpAfter{500};  // MAX_JUMP_MSEC of pjmedia's clock_thread.c

    pjmedia_port* const bridge_;
    pjmedia_port port_{};
    pjmedia_master_port* master_ = nullptr;
    pj_pool_t* pool_ = nullptr;
    int event_fd_ = -1;
    Clock::duration tick_{};
    Clock::time_point due_{};
    bool measuring_ = false;
    Counter ticks_;
    Counter late_ticks_;
    std::atomic<std::uint64_t> max_lag_us_{0};
};

}  // namespace sip_agent
#endif
