/* The part of the Python module that spoils calls on purpose. SPDX-License-Identifier: GPL-2.0-or-later */
%{
#include "line.hpp"
#include "noise_source.hpp"
#include "vanisher.hpp"
%}

%feature("kwargs") sip_agent::Line::Line;
%feature("compactdefaultargs") sip_agent::Line::Line;
%feature("kwargs") sip_agent::Impairments::Impairments;
%feature("compactdefaultargs") sip_agent::Impairments::Impairments;
%catches(pj::Error) sip_agent::Line::attach;
%catches(pj::Error) sip_agent::NoiseSource::NoiseSource;
%catches(pj::Error) sip_agent::Vanisher::Vanisher;

namespace sip_agent {

class LineCourier {
public:
    LineCourier();
    ~LineCourier();
    void close();
};

struct Impairments {
    ~Impairments();
};

%extend Impairments {
    Impairments(double lost = 0, double duplicated = 0, double reordered = 0, int jitter_ms = 0) {
        return new sip_agent::Impairments{lost, duplicated, reordered, std::chrono::milliseconds(jitter_ms)};
    }
}

class Line {
public:
    ~Line();
    void attach(const pj::OnCreateMediaTransportParam& created);
    void cut();
};

%extend Line {
    Line(sip_agent::LineCourier& courier, const sip_agent::Impairments& to_peer,
         const sip_agent::Impairments& from_peer, unsigned long long seed = 1, bool mute = false, bool deaf = false,
         int payload_type = -1) {
        return new sip_agent::Line(courier, {to_peer, from_peer, seed, mute, deaf, payload_type});
    }
}

class NoiseSource : public pj::AudioMedia {
public:
    NoiseSource(double level_dbov, unsigned int seed);
    ~NoiseSource();
    void close();
};

class Vanisher {
public:
    Vanisher();
    ~Vanisher();
    void vanish(const std::string& call_id);
    void close();
};

}
