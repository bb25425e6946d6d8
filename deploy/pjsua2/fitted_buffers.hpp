/* Sent messages in buffers of their own size. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_FITTED_BUFFERS_HPP
#define SIP_AGENT_FITTED_BUFFERS_HPP

#include <cstring>

#include <pjsua2.hpp>

namespace sip_agent {

/* pjsip prints every message into a buffer of PJSIP_MAX_PKT_LEN and keeps it as long as the transaction: 32 s after each
 * BYE. With 64 KB messages allowed, 100 calls a second would hold 200 MB for nothing. This module stands just before the
 * one that prints, prints into scratch memory instead, and keeps what is needed. */
class FittedBuffers {
public:
    FittedBuffers() {
        module_.name = pj_str(const_cast<char*>("mod-sip-agent-buffers"));
        module_.id = -1;
        module_.priority = PJSIP_MOD_PRIORITY_TRANSPORT_LAYER + 1;
        module_.on_tx_request = module_.on_tx_response = &FittedBuffers::on_tx;
    }

    pjsip_module* module() { return &module_; }

private:
    static pj_status_t on_tx(pjsip_tx_data* tdata) {
        if (pjsip_tx_data_is_valid(tdata)) return PJ_SUCCESS;  // a retransmission
        static thread_local char scratch[PJSIP_MAX_PKT_LEN];
        const pj_ssize_t length = pjsip_msg_print(tdata->msg, scratch, sizeof(scratch) - 1);
        if (length <= 0) return PJSIP_EMSGTOOLONG;
        pjsip_buffer& buffer = tdata->buf;
        if (!buffer.start || buffer.end - buffer.start <= length) {
            buffer.start = static_cast<char*>(pj_pool_alloc(tdata->pool, static_cast<pj_size_t>(length) + 1));
            buffer.end = buffer.start + length + 1;
        }
        std::memcpy(buffer.start, scratch, static_cast<std::size_t>(length));
        buffer.start[length] = '\0';
        buffer.cur = buffer.start + length;
        return PJ_SUCCESS;
    }

    pjsip_module module_{};
};

}  // namespace sip_agent
#endif
