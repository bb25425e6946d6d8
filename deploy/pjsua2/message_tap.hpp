/* Notes the SIP messages of each call as they pass the transports. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_MESSAGE_TAP_HPP
#define SIP_AGENT_MESSAGE_TAP_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pjsua2.hpp>

#include "pj_calls.hpp"

namespace sip_agent {

struct TappedMessage {
    double at_s;  // since the epoch
    bool sent;
    std::string text;  // the method of a request, status and reason phrase of a response
    int cseq;
};

/* A module between the transports and everything else: it sees retransmissions, challenges and the ACKs of refusals.
 * A call is what an INVITE begins; only so many calls are remembered, and of each only so many messages. */
class MessageTap {
public:
    using Messages = std::vector<TappedMessage>;

    MessageTap() {
        module_.on_rx_request = module_.on_rx_response = [](pjsip_rx_data* rdata) -> pj_bool_t {
            if (rdata->msg_info.cid && rdata->msg_info.cseq) {
                instance_->note(*rdata->msg_info.msg, rdata->msg_info.cid->id, rdata->msg_info.cseq->cseq, false);
            }
            return PJ_FALSE;
        };
        module_.on_tx_request = module_.on_tx_response = [](pjsip_tx_data* tdata) -> pj_status_t {
            const auto* call_id = static_cast<pjsip_cid_hdr*>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_CALL_ID, nullptr));
            const auto* cseq = static_cast<pjsip_cseq_hdr*>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_CSEQ, nullptr));
            if (call_id && cseq) instance_->note(*tdata->msg, call_id->id, cseq->cseq, true);
            return PJ_SUCCESS;
        };
        module_.id = -1;
        module_.name = pj_str(const_cast<char*>("mod-sip-agent-tap"));
        module_.priority = PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1;
        instance_ = this;
        check(pjsip_endpt_register_module(pjsua_get_pjsip_endpt(), &module_), "MessageTap()");
    }

    ~MessageTap() { close(); }

    MessageTap(const MessageTap&) = delete;
    MessageTap& operator=(const MessageTap&) = delete;

    /* SIP thread; before libDestroy(). */
    void close() {
        if (instance_ != this) return;
        if (pjsua_is_alive()) pjsip_endpt_unregister_module(pjsua_get_pjsip_endpt(), &module_);
        instance_ = nullptr;
    }

    /* Any thread. The messages of a call so far, which is forgotten by that. */
    Messages take(const std::string& call_id) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = calls_.find(call_id);
        if (found == calls_.end()) return {};
        Messages messages = std::move(found->second);
        calls_.erase(found);
        return messages;
    }

private:
    static constexpr std::size_t kCallsMax = 4096;
    static constexpr std::size_t kMessagesMax = 200;
    static constexpr std::size_t kCallIdMax = 256;
    static constexpr pj_ssize_t kTextMax = 60;

    void note(const pjsip_msg& message, const pj_str_t& id, int cseq, bool sent) {
        if (id.slen <= 0 || static_cast<std::size_t>(id.slen) > kCallIdMax) return;
        const std::string call_id(id.ptr, static_cast<std::size_t>(id.slen));
        const bool request = message.type == PJSIP_REQUEST_MSG;
        const std::lock_guard<std::mutex> lock(mutex_);
        auto found = calls_.find(call_id);
        if (found == calls_.end()) {
            if (!request || message.line.req.method.id != PJSIP_INVITE_METHOD) return;
            make_room();
            found = calls_.emplace(call_id, Messages()).first;
            order_.push_back(call_id);
        }
        if (found->second.size() >= kMessagesMax) return;
        const pj_str_t& words = request ? message.line.req.method.name : message.line.status.reason;
        std::string text = request ? "" : std::to_string(message.line.status.code) + " ";
        text.append(words.ptr, static_cast<std::size_t>(std::max<pj_ssize_t>(0, std::min(words.slen, kTextMax))));
        const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
        found->second.push_back({now.count(), sent, std::move(text), cseq});
    }

    /* Names of calls that were taken stay in `order_` until their turn comes. */
    void make_room() {
        while (order_.size() >= kCallsMax) {
            calls_.erase(order_.front());
            order_.pop_front();
        }
    }

    static inline MessageTap* instance_ = nullptr;

    pjsip_module module_{};
    std::mutex mutex_;
    std::unordered_map<std::string, Messages> calls_;
    std::deque<std::string> order_;
};

}  // namespace sip_agent
#endif
