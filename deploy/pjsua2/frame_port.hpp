/* A port of the conference bridge whose other end is Python. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_FRAME_PORT_HPP
#define SIP_AGENT_FRAME_PORT_HPP

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pjsua-lib/pjsua_internal.h>
#include <pjsua2.hpp>

#include "pj_calls.hpp"
#include "playout.hpp"

namespace sip_agent {

/* What the clock thread touches: rings, counters, the pjmedia_port itself. It outlives the FramePort, because the bridge
 * removes a port only at one of its next ticks; the last of the two to let go frees it. */
class FrameExchange {
public:
    static constexpr unsigned kMaxSamples = 960;  // 20 ms at 48 kHz

    struct Sizes {
        unsigned received_frames;
        unsigned send_frames;
        unsigned capture_frames;
        unsigned gap_limit_ticks;
        unsigned cushion_frames;
    };

    FrameExchange(const std::string& name, unsigned sample_rate_hz, unsigned samples, const Sizes& sizes)
        : samples_(samples),
          name_(name),
          playout(bytes(), sizes.send_frames, sizes.gap_limit_ticks, sizes.cushion_frames),
          received(bytes(), sizes.received_frames),
          capture(2 * bytes(), sizes.capture_frames),
          skips(sizeof(Skip), kSkips),
          capture_on_(sizes.capture_frames > 0),
          silence_(samples),
          sent_(samples) {
        const pj_str_t port_name = {const_cast<char*>(name_.c_str()), static_cast<pj_ssize_t>(name_.size())};
        pjmedia_port_info_init(&port_.info, &port_name, PJMEDIA_SIG_CLASS_APP('F', 'R', 'P'), sample_rate_hz, 1, 16,
                               samples);
        port_.get_frame = &FrameExchange::on_get_frame;
        port_.put_frame = &FrameExchange::on_put_frame;
    }

    /* Hands a share of `self` to pjmedia, which gives it back through on_destroy(). */
    static pjmedia_port* lend(const std::shared_ptr<FrameExchange>& self, pj_pool_t* pool) {
        self->pool_ = pool;
        self->port_.port_data.pdata = new std::shared_ptr<FrameExchange>(self);
        self->port_.on_destroy = &FrameExchange::on_destroy;
        return &self->port_;
    }

    /* SIP thread. In every tick from the next one on, frames are exchanged with `stream`, which the bridge must leave
     * alone; nullptr: with whatever the bridge connects to this port. */
    void link(pjmedia_port* stream) {
        if (stream) pjmedia_port_add_ref(stream);
        release(offered_.exchange(stream, std::memory_order_acq_rel));
    }

    /* So many ticks never came before the frame of that number (from 0) was captured. */
    struct Skip {
        std::uint64_t before;
        std::uint64_t ticks;
    };

private:
    static constexpr unsigned kSkips = 8;
    static constexpr std::uint64_t kMaxSkip = 3000;  // a minute: more would be no recording of a call

    std::size_t bytes() const { return samples_ * sizeof(pj_int16_t); }

    // Declared before the rings, which are sized by it.
    const unsigned samples_;
    const std::string name_;

public:
    Playout playout;
    FrameRing received;
    FrameRing capture;
    FrameRing skips;
    Counter ticks;
    Counter overruns;
    Counter capture_overruns;
    Counter late;

    /* Reader. Of the frames now waiting, those that came more than three ticks ago are late: it did not keep up. */
    void note_late(std::size_t frames) {
        if (frames > kLateAfterTicks) late.add(frames - kLateAfterTicks);
    }

private:
    static constexpr std::size_t kLateAfterTicks = 3;

    static FrameExchange& of(pjmedia_port* port) {
        return **static_cast<std::shared_ptr<FrameExchange>*>(port->port_data.pdata);
    }

    /* The bridge asks for the agent's next frame: before on_put_frame() of the same tick, and only while somebody
     * listens to this port. */
    static pj_status_t on_get_frame(pjmedia_port* port, pjmedia_frame* frame) {
        FrameExchange& self = of(port);
        if (self.sent_pending_) self.end_bridge_tick(self.silence_.data());  // a tick that brought no on_put_frame()
        if (frame->size >= self.bytes() && self.playout.next(self.sent_.data())) {
            self.sent_pending_ = true;
            std::memcpy(frame->buf, self.sent_.data(), self.bytes());
            frame->size = self.bytes();
            frame->type = PJMEDIA_FRAME_TYPE_AUDIO;
        } else {
            frame->size = 0;
            frame->type = PJMEDIA_FRAME_TYPE_NONE;
        }
        return PJ_SUCCESS;
    }

    /* The bridge brings what the caller said in this tick; every tick, if only to say that nobody talks to this port. */
    static pj_status_t on_put_frame(pjmedia_port* port, pjmedia_frame* frame) {
        FrameExchange& self = of(port);
        self.note_skipped();
        if (self.offered_.load(std::memory_order_relaxed) != no_offer()) {
            release(std::exchange(self.stream_, self.offered_.exchange(no_offer(), std::memory_order_acq_rel)));
        }
        if (self.stream_) self.exchange_with_stream(frame->timestamp);
        else self.end_bridge_tick(self.is_whole(*frame) ? static_cast<const pj_int16_t*>(frame->buf) : self.silence_.data());
        return PJ_SUCCESS;
    }

    /* What the bridge does for two ports that are connected with each other, without its buffers and its mixing. */
    void exchange_with_stream(const pj_timestamp& timestamp) {
        if (!stream_->get_frame && !stream_->put_frame) {  // its call has stopped it, and nobody else has it any more
            release(std::exchange(stream_, nullptr));
            end_bridge_tick(silence_.data());
            return;
        }
        // On the stack, which is in the cache after the first port of a tick; what belongs to each port is not.
        pj_int16_t heard_samples[kMaxSamples], said_samples[kMaxSamples];
        pjmedia_frame heard{};
        heard.buf = heard_samples;
        heard.size = bytes();
        if (pjmedia_port_get_frame(stream_, &heard) != PJ_SUCCESS || !is_whole(heard)) {
            std::memset(heard_samples, 0, bytes());
        }
        if (!playout.next(said_samples)) std::memset(said_samples, 0, bytes());
        pjmedia_frame said{};
        said.type = PJMEDIA_FRAME_TYPE_AUDIO;
        said.buf = said_samples;
        said.size = bytes();
        said.timestamp = timestamp;
        pjmedia_port_put_frame(stream_, &said);
        end_tick(heard_samples, said_samples);
    }

    bool is_whole(const pjmedia_frame& frame) const {
        return frame.type == PJMEDIA_FRAME_TYPE_AUDIO && frame.size == bytes();
    }

    void end_bridge_tick(const pj_int16_t* heard) {
        end_tick(heard, std::exchange(sent_pending_, false) ? sent_.data() : silence_.data());
    }

    void note_skipped() {
        const std::uint64_t clock_skipped = skipped_clock_ticks().get();
        const std::uint64_t skipped = clock_skipped - std::exchange(skipped_seen_, clock_skipped);
        if (skipped == 0 || ticks.get() == 0 || !capture_on_) return;
        const Skip skip{capture.written(), std::min(skipped, kMaxSkip)};
        if (skips.write(&skip, 1) == 0) capture_overruns.add(skipped);
    }

    void end_tick(const pj_int16_t* heard, const pj_int16_t* said) {
        ticks.add();
        if (received.write(heard, 1) == 0) overruns.add();
        if (!capture_on_) return;
        const bool room = capture.write_one([&](unsigned char* slot) {
            auto* pairs = reinterpret_cast<pj_int16_t*>(slot);
            for (std::size_t i = 0, samples = samples_; i < samples; ++i) {
                pairs[2 * i] = heard[i];
                pairs[2 * i + 1] = said[i];
            }
        });
        if (!room) capture_overruns.add();
    }

    static pj_status_t on_destroy(pjmedia_port* port) {
        auto* share = static_cast<std::shared_ptr<FrameExchange>*>(port->port_data.pdata);
        FrameExchange& self = **share;
        release(self.stream_);
        release(self.offered_.exchange(no_offer(), std::memory_order_acq_rel));
        pj_pool_t* pool = self.pool_;
        delete share;
        pj_pool_release(pool);
        return PJ_SUCCESS;
    }

    static pjmedia_port* no_offer() {
        static pjmedia_port nothing;
        return &nothing;
    }

    static void release(pjmedia_port* stream) {
        if (stream && stream != no_offer()) pjmedia_port_dec_ref(stream);
    }

    const bool capture_on_;
    const std::vector<pj_int16_t> silence_;
    std::vector<pj_int16_t> sent_;  // the frame handed to the bridge in the current tick
    bool sent_pending_ = false;
    std::uint64_t skipped_seen_ = 0;
    pjmedia_port* stream_ = nullptr;  // the clock thread's
    std::atomic<pjmedia_port*> offered_{no_offer()};  // what is to take its place
    pjmedia_port port_{};
    pj_pool_t* pool_ = nullptr;
};

/* The end that Python holds. Create, connect and close() it on the SIP thread; everything else belongs to one other
 * thread of your choice, needs no lock and takes well under a microsecond. No call of it ever waits for the clock. */
class FramePort : public pj::AudioMedia {
public:
    FramePort(const std::string& name, unsigned sample_rate_hz, unsigned ptime_ms, const FrameExchange::Sizes& sizes) {
        const unsigned samples = sample_rate_hz / 1000 * ptime_ms;
        pjsua_conf_port_info bridge;
        check(pjsua_conf_get_port_info(0, &bridge), "FramePort()");
        if (bridge.clock_rate != sample_rate_hz || bridge.samples_per_frame != samples) {
            // The bridge would resample and buffer, and the two sides of a captured tick would no longer belong together.
            raise(PJMEDIA_ENOTCOMPATIBLE, "FramePort()", "the bridge has another sample rate or frame time");
        }
        if (samples > FrameExchange::kMaxSamples) raise(PJ_ETOOBIG, "FramePort()", "more than 960 samples in a frame");
        if (std::max({sizes.received_frames, sizes.send_frames, sizes.capture_frames}) > kMaxRingFrames) {
            raise(PJ_ETOOBIG, "FramePort()", "a ring of more than a minute");
        }
        exchange_ = std::make_shared<FrameExchange>(name, sample_rate_hz, samples, sizes);
        pj_pool_t* pool = pjsua_pool_create("frameport%p", 512, 512);
        if (!pool) raise(PJ_ENOMEM, "FramePort()");
        port_ = FrameExchange::lend(exchange_, pool);
        const pj_status_t status = pjmedia_port_init_grp_lock(port_, pool, nullptr);
        if (status != PJ_SUCCESS) {
            port_->on_destroy(port_);
            raise(status, "FramePort()");
        }
        try {
            registerMediaPort2(port_, pool);
        } catch (...) {
            pjmedia_port_destroy(port_);
            throw;
        }
    }

    ~FramePort() override { close(); }

    FramePort(const FramePort&) = delete;
    FramePort& operator=(const FramePort&) = delete;

    /* Lets sound flow between this port and the stream of a call, both ways, from the next tick on: straight, or through
     * the bridge if that has to resample or cut frames, or to mix in something else, which the caller asks for. */
    void connect(const pj::Call& call, unsigned media_index, bool through_bridge) {
        const pjsua_call_id id = call.getId();
        const bool known = id >= 0 && id < PJSUA_MAX_CALLS && media_index < PJSUA_MAX_CALL_MEDIA;
        const pjsua_call_media* media = known ? &pjsua_var.calls[id].media[media_index] : nullptr;
        pjmedia_port* stream = media && media->type == PJMEDIA_TYPE_AUDIO ? media->strm.a.media_port : nullptr;
        if (!port_ || !stream || media->strm.a.conf_slot == PJSUA_INVALID_ID) {
            raise(PJ_EINVALIDOP, "FramePort.connect", "there is no stream");
        }
        const pjsua_conf_port_id slot = media->strm.a.conf_slot;
        const bool straight = !through_bridge && stream->grp_lock && same_format(stream->info, port_->info);
        const pjmedia_port_op op = straight ? PJMEDIA_PORT_DISABLE : PJMEDIA_PORT_ENABLE;
        check(pjsua_conf_configure_port(slot, op, op), "FramePort.connect");
        exchange_->link(straight ? stream : nullptr);
        if (straight && !on_bridge_) return;
        on_bridge_ = !straight;
        const auto join = straight ? &pjsua_conf_disconnect : &pjsua_conf_connect;
        check(join(slot, getPortId()), "FramePort.connect");
        check(join(getPortId(), slot), "FramePort.connect");
    }

    /* Leaves the bridge, at its next tick. What was received before can still be read. */
    void close() {
        if (!port_) return;
        pjmedia_port* port = port_;
        port_ = nullptr;
        if (!pjsua_is_alive()) return;  // the bridge and its pools are gone already
        register_pj_thread();
        unregisterMediaPort();
        pjmedia_port_destroy(port);
    }

    const std::shared_ptr<FrameExchange>& exchange() const { return exchange_; }
    int frame_bytes() const { return static_cast<int>(exchange_->playout.frame_bytes()); }
    std::uint64_t written() const { return exchange_->playout.written(); }
    std::uint64_t sent() const { return exchange_->playout.sent(); }
    std::uint64_t flushed() const { return exchange_->playout.flushed(); }

private:
    static bool same_format(const pjmedia_port_info& one, const pjmedia_port_info& other) {
        return one.fmt.id == PJMEDIA_FORMAT_PCM && PJMEDIA_PIA_SRATE(&one) == PJMEDIA_PIA_SRATE(&other) &&
               PJMEDIA_PIA_SPF(&one) == PJMEDIA_PIA_SPF(&other) && PJMEDIA_PIA_CCNT(&one) == PJMEDIA_PIA_CCNT(&other);
    }

    static constexpr unsigned kMaxRingFrames = 3000;

    std::shared_ptr<FrameExchange> exchange_;
    pjmedia_port* port_ = nullptr;
    bool on_bridge_ = false;
};

}  // namespace sip_agent
#endif
