/* Nothing a stranger sends takes a call slot, a dialog or an RTP socket before Python has decided.
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIP_AGENT_INVITE_GATE_HPP
#define SIP_AGENT_INVITE_GATE_HPP

#include <algorithm>
#include <array>
#include <deque>
#include <initializer_list>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <pjsua2.hpp>

#include "fitted_buffers.hpp"
#include "pj_calls.hpp"
#include "playout.hpp"

namespace sip_agent {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

inline std::string to_string(const pj_str_t& text) {
    return text.slen > 0 ? std::string(text.ptr, static_cast<std::size_t>(text.slen)) : std::string();
}

/* One INVITE, copied out of the transport's buffer, and the CANCEL that may have come after it. */
struct HeldMessages {
    std::string key;
    pjsip_rx_data* invite = nullptr;
    pjsip_rx_data* cancel = nullptr;
};

struct GateCounters {
    Counter held, retransmissions_dropped, rejected, passed, overflow, other_methods, oversized, blocked_dropped;
};

/* The state shared by the gate, the INVITEs it handed out and the two pjsip modules.
 *
 * pjsip calls modules in the order of their priority. The *door* stands before everything else (the logger included)
 * and sees every message: it drops blocked sources and rewrites Contact. The *gate* stands between the transaction layer,
 * which has absorbed retransmissions and ACKs of known transactions by then, and the UA layer, which finds dialogs: what
 * reaches it without a To tag is a stranger's. */
class GateCore {
public:
    GateCore(std::size_t max_held, bool rewrite_contact) : max_held_(max_held), rewrite_contact_(rewrite_contact) {}

    GateCounters counters;

    static std::shared_ptr<GateCore>& instance() {
        static std::shared_ptr<GateCore> core;
        return core;
    }

    /* SIP thread. */
    void open() {
        pjsip_endpoint* endpoint = pjsua_get_pjsip_endpt();
        door_.on_rx_request = &GateCore::door_on_rx_request;
        door_.on_rx_response = &GateCore::door_on_rx_response;
        gate_.on_rx_request = &GateCore::gate_on_rx_request;
        gate_.on_tx_response = &GateCore::gate_on_tx_response;
        gate_.stop = &GateCore::on_endpoint_stop;
        init_module(door_, "mod-sip-agent-door", PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 2);
        init_module(gate_, "mod-sip-agent-gate", PJSIP_MOD_PRIORITY_UA_PROXY_LAYER - 8);
        for (pjsip_module* module : modules()) check(pjsip_endpt_register_module(endpoint, module), "InviteGate()");
        withdraw(endpoint, PJSIP_H_ALLOW, {"REFER", "SUBSCRIBE", "PUBLISH", "MESSAGE"});
        withdraw(endpoint, PJSIP_H_SUPPORTED, {"replaces"});
        sip_thread_ = std::this_thread::get_id();
        open_ = true;
    }

    void close() {
        if (!open_) return;
        for (pjsip_module* module : modules()) pjsip_endpt_unregister_module(pjsua_get_pjsip_endpt(), module);
    }

    bool is_open() const { return open_; }
    bool on_sip_thread() const { return std::this_thread::get_id() == sip_thread_; }

    std::shared_ptr<HeldMessages> take() {
        release_abandoned();
        const std::lock_guard<std::mutex> lock(mutex_);
        if (queue_.empty()) return nullptr;
        auto messages = queue_.front();
        queue_.pop_front();
        return messages;
    }

    /* The decision has been made: from now on the messages are the caller's, and a retransmission is a new INVITE. */
    void settle(const std::shared_ptr<HeldMessages>& messages) {
        const std::lock_guard<std::mutex> lock(mutex_);
        held_.erase(messages->key);
    }

    /* Undecided and forgotten on another thread: the next take() frees it. */
    void abandon(const std::shared_ptr<HeldMessages>& messages) {
        const std::lock_guard<std::mutex> lock(mutex_);
        held_.erase(messages->key);
        abandoned_.push_back(messages);
    }

    static void release(HeldMessages& messages) {
        if (messages.invite) pjsip_rx_data_free_cloned(messages.invite);
        if (messages.cancel) pjsip_rx_data_free_cloned(messages.cancel);
        messages.invite = messages.cancel = nullptr;
    }

    /* Lets the stack go on where the gate stopped it. Returns the final status sent meanwhile, or 0: pjsua took it. */
    int pass_on(HeldMessages& messages) {
        Passing passing{messages.invite};
        Passing* outer = std::exchange(passing_, &passing);
        const bool handled = process(messages.invite);
        passing_ = outer;
        if (!handled) {
            respond(messages.invite, PJSIP_SC_INTERNAL_SERVER_ERROR, "", {}, false);
            return PJSIP_SC_INTERNAL_SERVER_ERROR;
        }
        if (messages.cancel) process(messages.cancel);
        return passing.final_status;
    }

    static bool respond(pjsip_rx_data* request, int code, const std::string& reason, const HeaderList& headers,
                        bool stateful) {
        pj_pool_t* pool = request->tp_info.pool;
        pjsip_hdr list;
        pj_list_init(&list);
        for (const auto& [name, value] : headers) {
            const pj_str_t pj_name = {const_cast<char*>(name.data()), static_cast<pj_ssize_t>(name.size())};
            const pj_str_t pj_value = {const_cast<char*>(value.data()), static_cast<pj_ssize_t>(value.size())};
            pj_list_push_back(&list, pjsip_generic_string_hdr_create(pool, &pj_name, &pj_value));
        }
        const pj_str_t pj_reason = {const_cast<char*>(reason.data()), static_cast<pj_ssize_t>(reason.size())};
        const pj_str_t* text = reason.empty() ? nullptr : &pj_reason;
        pjsip_endpoint* endpoint = pjsua_get_pjsip_endpt();
        const pj_status_t status =
            stateful ? pjsip_endpt_respond(endpoint, nullptr, request, code, text, &list, nullptr, nullptr)
                     : pjsip_endpt_respond_stateless(endpoint, request, code, text, &list, nullptr);
        return status == PJ_SUCCESS;
    }

    void block(const std::string& host) {
        const std::lock_guard<std::mutex> lock(mutex_);
        blocked_.insert(host);
    }
    void unblock(const std::string& host) {
        const std::lock_guard<std::mutex> lock(mutex_);
        blocked_.erase(host);
    }

    std::size_t currently_held() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return held_.size();
    }

private:
    /* An INVITE on its way up the stack, while pass_on() waits for the outcome. */
    struct Passing {
        const pjsip_rx_data* invite;
        int final_status = 0;
    };

    std::array<pjsip_module*, 3> modules() { return {&door_, &gate_, buffers_.module()}; }

    static void init_module(pjsip_module& module, const char* name, int priority) {
        module.name = pj_str(const_cast<char*>(name));
        module.id = -1;
        module.priority = priority;
    }

    bool process(pjsip_rx_data* request) {
        pjsip_process_rdata_param param;
        pjsip_process_rdata_param_default(&param);
        param.start_mod = &gate_;
        param.idx_after_start = 1;
        pj_bool_t handled = PJ_FALSE;
        pjsip_endpt_process_rx_data(pjsua_get_pjsip_endpt(), request, &param, &handled);
        return handled;
    }

    static pj_bool_t door_on_rx_request(pjsip_rx_data* rdata) {
        GateCore& self = *instance();
        if (self.is_blocked(rdata->pkt_info.src_name)) {
            self.counters.blocked_dropped.add();
            return PJ_TRUE;
        }
        // More than one Via: a proxy is between us, and the peer's own address is not the packet's source.
        const bool direct = pjsip_msg_find_hdr(rdata->msg_info.msg, PJSIP_H_VIA, rdata->msg_info.via->next) == nullptr;
        if (self.rewrite_contact_ && direct && makes_target(rdata->msg_info.msg->line.req.method)) {
            rewrite_contact(rdata);
        }
        return PJ_FALSE;
    }

    static pj_bool_t door_on_rx_response(pjsip_rx_data* rdata) {
        const int code = rdata->msg_info.msg->line.status.code;
        // In a 3xx the Contact says where else to go, in a response to REGISTER what is registered: not ours to change.
        if (instance()->rewrite_contact_ && code > 100 && code < 300 && makes_target(rdata->msg_info.cseq->method)) {
            rewrite_contact(rdata);
        }
        return PJ_FALSE;
    }

    /* Does the Contact of this method become the dialog's remote target (RFC 3261 section 12.2)? */
    static bool makes_target(const pjsip_method& method) {
        if (method.id == PJSIP_INVITE_METHOD) return true;
        return method.id == PJSIP_OTHER_METHOD && pj_stricmp2(&method.name, "UPDATE") == 0;
    }

    /* A peer behind NAT names an address that we cannot reach; the packet came from one that we can. With Record-Route
     * requests follow the route, and the Contact stays as it is. */
    static void rewrite_contact(pjsip_rx_data* rdata) {
        pjsip_msg* msg = rdata->msg_info.msg;
        if (pjsip_msg_find_hdr(msg, PJSIP_H_RECORD_ROUTE, nullptr)) return;
        auto* contact = static_cast<pjsip_contact_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, nullptr));
        if (!contact || contact->star || !contact->uri) return;
        if (!PJSIP_URI_SCHEME_IS_SIP(contact->uri) && !PJSIP_URI_SCHEME_IS_SIPS(contact->uri)) return;
        auto* uri = static_cast<pjsip_sip_uri*>(pjsip_uri_get_uri(contact->uri));
        pj_strdup2(rdata->tp_info.pool, &uri->host, rdata->pkt_info.src_name);
        uri->port = rdata->pkt_info.src_port;
        uri->maddr_param.slen = 0;
        const pjsip_transport* transport = rdata->tp_info.transport;
        if (PJSIP_URI_SCHEME_IS_SIP(contact->uri)) {
            uri->transport_param = transport->flag & PJSIP_TRANSPORT_RELIABLE ? pj_str(transport->type_name) : pj_str_t{};
        }
    }

    bool is_blocked(const char* host) {
        const std::lock_guard<std::mutex> lock(mutex_);
        return !blocked_.empty() && blocked_.count(host) != 0;
    }

    static pj_bool_t gate_on_rx_request(pjsip_rx_data* rdata) {
        GateCore& self = *instance();
        const pjsip_method& method = rdata->msg_info.msg->line.req.method;
        const bool in_dialog = rdata->msg_info.to->tag.slen != 0;
        if (method.id == PJSIP_CANCEL_METHOD) return self.hold_cancel(rdata);
        if (in_dialog && is_one_of(method, {"INFO"}) && answers_info(rdata)) return PJ_TRUE;
        if (in_dialog ? serves_in_dialog(method) : serves_strangers(method)) return PJ_FALSE;
        if (!in_dialog && method.id == PJSIP_INVITE_METHOD) return self.hold_invite(rdata);
        self.counters.other_methods.add();
        if (!in_dialog && exists_only_in_dialog(method)) {
            respond(rdata, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST, "", {}, false);
        } else {
            respond(rdata, PJSIP_SC_METHOD_NOT_ALLOWED, "", {{"Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"}}, false);
        }
        return PJ_TRUE;
    }

    /* INFO in a call (RFC 6086): pjsua knows dtmf-relay alone, and would answer 500 to everything else. Returns whether the
     * request is answered. A digit as application/dtmf goes on in a form that pjsua says 200 to; which digit it was, the
     * agent reads in the message as it came. */
    static bool answers_info(pjsip_rx_data* rdata) {
        pjsip_msg* msg = rdata->msg_info.msg;
        if (!pjsip_ua_find_dialog(&rdata->msg_info.cid->id, &rdata->msg_info.to->tag, &rdata->msg_info.from->tag, PJ_FALSE)) {
            return false;
        }
        if (!msg->body || msg->body->len == 0) {
            respond(rdata, PJSIP_SC_OK, "", {}, false);
            return true;
        }
        pjsip_media_type& type = msg->body->content_type;
        if (pj_stricmp2(&type.type, "application") == 0 && pj_stricmp2(&type.subtype, "dtmf-relay") == 0) return false;
        if (pj_stricmp2(&type.type, "application") == 0 && pj_stricmp2(&type.subtype, "dtmf") == 0) {
            static char digit[] = "Signal=0\r\nDuration=160\r\n";
            type.subtype = pj_str(const_cast<char*>("dtmf-relay"));
            msg->body->data = digit;
            msg->body->len = sizeof(digit) - 1;
            return false;
        }
        respond(rdata, PJSIP_SC_UNSUPPORTED_MEDIA_TYPE, "", {{"Accept", "application/dtmf-relay, application/dtmf"}}, false);
        return true;
    }

    static bool serves_strangers(const pjsip_method& method) {
        return method.id == PJSIP_ACK_METHOD || method.id == PJSIP_OPTIONS_METHOD;
    }

    /* Who sends these names a call, and without a To tag there is none (RFC 3261 15.1.2, 3311, 3262, 6086). */
    static bool exists_only_in_dialog(const pjsip_method& method) {
        return method.id == PJSIP_BYE_METHOD || is_one_of(method, {"UPDATE", "PRACK", "INFO"});
    }

    static bool is_one_of(const pjsip_method& method, std::initializer_list<const char*> names) {
        return std::any_of(names.begin(), names.end(),
                           [&method](const char* name) { return pj_stricmp2(&method.name, name) == 0; });
    }

    /* What belongs to a call. Not MESSAGE, SUBSCRIBE and PUBLISH: nobody here needs them, and what they carry would reach
     * the parsers of presence documents. Not REFER: it would have us call whomever the caller names. */
    static bool serves_in_dialog(const pjsip_method& method) {
        if (method.id == PJSIP_REGISTER_METHOD) return false;
        return method.id != PJSIP_OTHER_METHOD || is_one_of(method, {"UPDATE", "PRACK", "INFO", "NOTIFY"});
    }

    /* What the stack offers in Allow and Supported, and we refuse. */
    static void withdraw(pjsip_endpoint* endpoint, int header, std::initializer_list<const char*> names) {
        const void* offered = pjsip_endpt_get_capability(endpoint, header, nullptr);
        if (!offered) return;
        auto* list = const_cast<pjsip_generic_array_hdr*>(static_cast<const pjsip_generic_array_hdr*>(offered));
        const auto is_named = [&names](const pj_str_t& value) {
            return std::any_of(names.begin(), names.end(),
                               [&value](const char* name) { return pj_stricmp2(&value, name) == 0; });
        };
        list->count = static_cast<unsigned>(std::remove_if(list->values, list->values + list->count, is_named) - list->values);
    }

    pj_bool_t hold_invite(pjsip_rx_data* rdata) {
        if (count_headers(rdata->msg_info.msg) > kMaxHeaders) {
            counters.oversized.add();
            respond(rdata, PJSIP_SC_MESSAGE_TOO_LARGE, "Too Many Headers", {}, false);
        } else if (!keep(rdata)) {
            counters.overflow.add();
            respond(rdata, PJSIP_SC_SERVICE_UNAVAILABLE, "", {{"Retry-After", "1"}}, false);
        }
        return PJ_TRUE;
    }

    /* False when there is no room. */
    bool keep(pjsip_rx_data* rdata) {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::string key = transaction_key(rdata);
        if (held_.count(key)) {
            counters.retransmissions_dropped.add();
            return true;
        }
        auto messages = std::make_shared<HeldMessages>();
        if (held_.size() >= max_held_ || pjsip_rx_data_clone(rdata, 0, &messages->invite) != PJ_SUCCESS) return false;
        counters.held.add();
        messages->key = key;
        held_.emplace(std::move(key), messages);
        queue_.push_back(std::move(messages));
        return true;
    }

    pj_bool_t hold_cancel(pjsip_rx_data* rdata) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = held_.find(transaction_key(rdata));
        if (found == held_.end()) return PJ_FALSE;
        if (found->second->cancel) counters.retransmissions_dropped.add();
        else pjsip_rx_data_clone(rdata, 0, &found->second->cancel);
        return PJ_TRUE;
    }

    /* A re-INVITE or UPDATE whose SDP cannot be met gets 488 (RFC 3261 section 14.2), as pjsip itself answers a first
     * INVITE; here it blames itself with 500. */
    static void name_the_refusal(pjsip_status_line& status) {
        static const pj_str_t failed = pj_str(const_cast<char*>("SDP negotiation failed"));
        if (status.code != PJSIP_SC_INTERNAL_SERVER_ERROR || pj_strcmp(&status.reason, &failed) != 0) return;
        status.code = PJSIP_SC_NOT_ACCEPTABLE_HERE;
        status.reason = *pjsip_get_status_text(PJSIP_SC_NOT_ACCEPTABLE_HERE);
    }

    static pj_status_t gate_on_tx_response(pjsip_tx_data* tdata) {
        name_the_refusal(tdata->msg->line.status);
        Passing* passing = instance()->passing_;
        if (!passing || tdata->msg->line.status.code < 200) return PJ_SUCCESS;
        const auto* call_id = static_cast<pjsip_cid_hdr*>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_CALL_ID, nullptr));
        const auto* cseq = static_cast<pjsip_cseq_hdr*>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_CSEQ, nullptr));
        const auto& invite = passing->invite->msg_info;
        if (call_id && cseq && cseq->method.id == PJSIP_INVITE_METHOD && cseq->cseq == invite.cseq->cseq &&
            pj_strcmp(&call_id->id, &invite.cid->id) == 0) {
            passing->final_status = tdata->msg->line.status.code;
        }
        return PJ_SUCCESS;
    }

    /* The endpoint is going away, or the gate is being closed: the last moment at which clones can be freed. */
    static pj_status_t on_endpoint_stop() {
        GateCore& self = *instance();
        {
            const std::lock_guard<std::mutex> lock(self.mutex_);
            self.open_ = false;
            for (auto& [key, messages] : self.held_) self.abandoned_.push_back(messages);
            self.held_.clear();
            self.queue_.clear();
        }
        self.release_abandoned();
        return PJ_SUCCESS;
    }

    void release_abandoned() {
        std::vector<std::shared_ptr<HeldMessages>> abandoned;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            abandoned.swap(abandoned_);
        }
        for (auto& messages : abandoned) release(*messages);
    }

    /* What makes two requests the same transaction (RFC 3261 section 17.2.3), with Call-ID and CSeq for peers whose
     * branch is not unique. The method is left out: a CANCEL must find its INVITE. */
    static std::string transaction_key(const pjsip_rx_data* rdata) {
        const auto& info = rdata->msg_info;
        std::string key = to_string(info.via->branch_param);
        key += '\n';
        key += to_string(info.via->sent_by.host) + ':' + std::to_string(info.via->sent_by.port);
        key += '\n';
        key += to_string(info.cid->id);
        key += '\n';
        key += std::to_string(info.cseq->cseq);
        return key;
    }

    static std::size_t count_headers(const pjsip_msg* msg) {
        std::size_t count = 0;
        for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) ++count;
        return count;
    }

    // Real INVITEs have 15 to 60; every one is cloned twice and walked many times over on its way up.
    static constexpr std::size_t kMaxHeaders = 512;

    const std::size_t max_held_;
    const bool rewrite_contact_;
    std::thread::id sip_thread_;
    std::atomic<bool> open_{false};
    pjsip_module door_{};
    pjsip_module gate_{};
    FittedBuffers buffers_;
    Passing* passing_ = nullptr;

    // Never held while pjsip may call out: a Python thread may wait for it with the interpreter lock in hand.
    std::mutex mutex_;
    std::unordered_map<std::string, std::shared_ptr<HeldMessages>> held_;  // undecided, by transaction
    std::deque<std::shared_ptr<HeldMessages>> queue_;                      // of those, not taken yet
    std::vector<std::shared_ptr<HeldMessages>> abandoned_;
    std::unordered_set<std::string> blocked_;
};

/* An INVITE that waits for a decision: exactly one of reject(), pass_on() and drop(), on the SIP thread. */
class HeldInvite {
public:
    HeldInvite(std::shared_ptr<GateCore> core, std::shared_ptr<HeldMessages> messages)
        : core_(std::move(core)), messages_(std::move(messages)) {
        const pjsip_rx_data* rdata = messages_->invite;
        const pjsip_transport* transport = rdata->tp_info.transport;
        message_.assign(rdata->msg_info.msg_buf, static_cast<std::size_t>(rdata->msg_info.len));
        source_host_ = rdata->pkt_info.src_name;
        source_port_ = rdata->pkt_info.src_port;
        char host[PJ_INET6_ADDRSTRLEN] = "";
        pj_sockaddr_print(&transport->local_addr, host, sizeof(host), 0);
        local_host_ = host;
        local_port_ = pj_sockaddr_get_port(&transport->local_addr);
        transport_ = transport->type_name;  // the same name for IPv4 and IPv6
        call_id_ = to_string(rdata->msg_info.cid->id);
    }

    /* Forgotten without a decision: the caller deserves an answer, but only the SIP thread may give it. */
    ~HeldInvite() {
        if (!messages_) return;
        if (!core_->is_open()) return;  // freed with the endpoint
        if (!core_->on_sip_thread()) {
            core_->abandon(messages_);
            return;
        }
        core_->settle(messages_);
        GateCore::respond(messages_->invite, PJSIP_SC_SERVICE_UNAVAILABLE, "", {}, false);
        GateCore::release(*messages_);
    }

    HeldInvite(const HeldInvite&) = delete;
    HeldInvite& operator=(const HeldInvite&) = delete;

    const std::string& message() const { return message_; }
    const std::string& source_host() const { return source_host_; }
    int source_port() const { return source_port_; }
    const std::string& local_host() const { return local_host_; }
    int local_port() const { return local_port_; }
    const std::string& transport() const { return transport_; }
    const std::string& call_id() const { return call_id_; }
    /* True once the caller has withdrawn it. */
    bool cancelled() const { return messages_ && messages_->cancel; }
    bool decided() const { return !messages_; }

    bool reject(int code, const std::string& reason, const HeaderList& headers, bool stateful) {
        const auto messages = decide();
        core_->counters.rejected.add();
        const bool sent = GateCore::respond(messages->invite, code, reason, headers, stateful);
        // RFC 3261 section 9.2: a CANCEL that matches is answered 200, whatever becomes of the INVITE.
        if (messages->cancel) GateCore::respond(messages->cancel, PJSIP_SC_OK, "", {}, false);
        GateCore::release(*messages);
        return sent;
    }

    int pass_on() {
        const auto messages = decide();
        core_->counters.passed.add();
        const int status = core_->pass_on(*messages);
        GateCore::release(*messages);
        return status;
    }

    void drop() { GateCore::release(*decide()); }

private:
    std::shared_ptr<HeldMessages> decide() {
        if (!messages_) raise(PJ_EINVALIDOP, "HeldInvite", "decided already");
        if (!core_->is_open()) raise(PJ_EINVALIDOP, "HeldInvite", "the gate is closed");
        core_->settle(messages_);
        return std::exchange(messages_, nullptr);
    }

    std::shared_ptr<GateCore> core_;
    std::shared_ptr<HeldMessages> messages_;
    std::string message_, source_host_, local_host_, transport_, call_id_;
    int source_port_ = 0;
    int local_port_ = 0;
};

/* Open it on the SIP thread after libInit() and before the first transport; one at a time. After each
 * libHandleEvents(), take() until it returns nothing. */
class InviteGate {
public:
    InviteGate(std::size_t max_held, bool rewrite_contact)
        : core_(std::make_shared<GateCore>(max_held, rewrite_contact)) {
        if (pjsua_get_state() < PJSUA_STATE_INIT || !pjsua_get_pjsip_endpt()) {
            raise(PJ_EINVALIDOP, "InviteGate()", "libInit() comes first");
        }
        auto& instance = GateCore::instance();
        if (instance && instance->is_open()) raise(PJ_EEXISTS, "InviteGate()", "a gate is open already");
        instance = core_;
        core_->open();
    }

    ~InviteGate() { close(); }

    InviteGate(const InviteGate&) = delete;
    InviteGate& operator=(const InviteGate&) = delete;

    /* SIP thread. What is still held is forgotten; later INVITEs go straight to pjsua. */
    void close() {
        if (!pjsua_is_alive()) return;
        register_pj_thread();
        core_->close();
    }

    HeldInvite* take() {
        auto messages = core_->take();
        return messages ? new HeldInvite(core_, std::move(messages)) : nullptr;
    }

    void block(const std::string& host) { core_->block(host); }
    void unblock(const std::string& host) { core_->unblock(host); }
    GateCore& core() { return *core_; }

private:
    std::shared_ptr<GateCore> core_;
};

}  // namespace sip_agent
#endif
