/* White noise on the conference bridge. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_NOISE_SOURCE_HPP
#define SIP_AGENT_NOISE_SOURCE_HPP

#include <cmath>

#include <pjsua2.hpp>

#include "pj_calls.hpp"

namespace sip_agent {

/* Connect it to a stream, and the bridge mixes it with what else is sent there. Create and close() it on the SIP thread.
 * `level_dbov` is the level of RFC 6465: the root mean square, relative to full scale. */
class NoiseSource : public pj::AudioMedia {
public:
    NoiseSource(double level_dbov, std::uint32_t seed) {
        pjsua_conf_port_info bridge;
        check(pjsua_conf_get_port_info(0, &bridge), "NoiseSource()");
        pj_pool_t* pool = pjsua_pool_create("noise%p", 512, 512);
        if (!pool) raise(PJ_ENOMEM, "NoiseSource()");
        auto* noise = new Noise;
        noise->pool = pool;
        noise->random = seed ? seed : 1;
        // Uniformly distributed samples have a root mean square of their peak divided by the square root of 3.
        noise->peak = std::min(32767.0, 32768.0 * std::sqrt(3.0) * std::pow(10.0, level_dbov / 20));
        const pj_str_t name = {const_cast<char*>("noise"), 5};
        pjmedia_port_info_init(&noise->port.info, &name, PJMEDIA_SIG_CLASS_APP('N', 'O', 'I'), bridge.clock_rate, 1, 16,
                               bridge.samples_per_frame);
        noise->port.port_data.pdata = noise;
        noise->port.get_frame = &NoiseSource::on_get_frame;
        noise->port.on_destroy = &NoiseSource::on_destroy;
        const pj_status_t status = pjmedia_port_init_grp_lock(&noise->port, pool, nullptr);
        if (status != PJ_SUCCESS) {
            on_destroy(&noise->port);
            raise(status, "NoiseSource()");
        }
        port_ = &noise->port;
        try {
            registerMediaPort2(port_, pool);
        } catch (...) {
            pjmedia_port_destroy(port_);
            throw;
        }
    }

    ~NoiseSource() override { close(); }

    NoiseSource(const NoiseSource&) = delete;
    NoiseSource& operator=(const NoiseSource&) = delete;

    /* Leaves the bridge, at its next tick. */
    void close() {
        pjmedia_port* port = std::exchange(port_, nullptr);
        if (!port || !pjsua_is_alive()) return;
        register_pj_thread();
        unregisterMediaPort();
        pjmedia_port_destroy(port);
    }

private:
    struct Noise {
        pjmedia_port port{};
        pj_pool_t* pool = nullptr;
        std::uint32_t random = 1;
        double peak = 0;
    };

    static pj_status_t on_get_frame(pjmedia_port* port, pjmedia_frame* frame) {
        auto& noise = *static_cast<Noise*>(port->port_data.pdata);
        auto* samples = static_cast<pj_int16_t*>(frame->buf);
        const unsigned count = PJMEDIA_PIA_SPF(&port->info);
        for (unsigned i = 0; i < count; ++i) {
            noise.random ^= noise.random << 13;  // xorshift32 (Marsaglia: Xorshift RNGs, 2003)
            noise.random ^= noise.random >> 17;
            noise.random ^= noise.random << 5;
            samples[i] = static_cast<pj_int16_t>(noise.peak * (noise.random / 2147483648.0 - 1));
        }
        frame->size = count * sizeof(pj_int16_t);
        frame->type = PJMEDIA_FRAME_TYPE_AUDIO;
        return PJ_SUCCESS;
    }

    static pj_status_t on_destroy(pjmedia_port* port) {
        auto* noise = static_cast<Noise*>(port->port_data.pdata);
        pj_pool_t* pool = noise->pool;
        delete noise;
        pj_pool_release(pool);
        return PJ_SUCCESS;
    }

    pjmedia_port* port_ = nullptr;
};

}  // namespace sip_agent
#endif
