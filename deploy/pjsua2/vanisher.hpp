/* Dialogs from which no SIP message leaves any more. SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_VANISHER_HPP
#define SIP_AGENT_VANISHER_HPP

#include <deque>
#include <string>
#include <unordered_set>

#include <pjsua2.hpp>

#include "pj_calls.hpp"

namespace sip_agent {

/* Stands right at the transports: messages of a vanished Call-ID are neither sent (the stack is told that sending has
 * failed) nor taken. Create it on the SIP thread after libInit(), one at a time, and use it there. */
class Vanisher {
public:
    Vanisher() {
        if (instance_) raise(PJ_EEXISTS, "Vanisher()", "there is one already");
        module_.name = pj_str(const_cast<char*>("mod-sip-agent-vanisher"));
        module_.id = -1;
        module_.priority = PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1;
        module_.on_rx_request = module_.on_rx_response = &Vanisher::on_rx;
        module_.on_tx_request = module_.on_tx_response = &Vanisher::on_tx;
        check(pjsip_endpt_register_module(pjsua_get_pjsip_endpt(), &module_), "Vanisher()");
        instance_ = this;
    }

    ~Vanisher() { close(); }

    Vanisher(const Vanisher&) = delete;
    Vanisher& operator=(const Vanisher&) = delete;

    void vanish(const std::string& call_id) {
        if (!vanished_.insert(call_id).second) return;
        order_.push_back(call_id);
        if (order_.size() <= kMaxVanished) return;
        vanished_.erase(order_.front());
        order_.pop_front();
    }

    void close() {
        if (instance_ != this) return;
        if (pjsua_is_alive()) {
            register_pj_thread();
            pjsip_endpt_unregister_module(pjsua_get_pjsip_endpt(), &module_);
        }
        instance_ = nullptr;
    }

private:
    bool has_vanished(const pj_str_t& call_id) const {
        return !vanished_.empty() && vanished_.count(std::string(call_id.ptr, static_cast<std::size_t>(call_id.slen)));
    }

    static pj_bool_t on_rx(pjsip_rx_data* rdata) { return instance_->has_vanished(rdata->msg_info.cid->id); }

    static pj_status_t on_tx(pjsip_tx_data* tdata) {
        const auto* call_id = static_cast<pjsip_cid_hdr*>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_CALL_ID, nullptr));
        return call_id && instance_->has_vanished(call_id->id) ? PJ_EGONE : PJ_SUCCESS;
    }

    static constexpr std::size_t kMaxVanished = 4096;

    inline static Vanisher* instance_ = nullptr;
    pjsip_module module_{};
    std::unordered_set<std::string> vanished_;
    std::deque<std::string> order_;  // the oldest first
};

}  // namespace sip_agent
#endif
