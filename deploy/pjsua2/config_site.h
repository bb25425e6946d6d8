/* Compile-time settings of the engine: what differs from pjproject's defaults, and why. */

/* Capacity. One call takes about 0.25 MB with its FramePort at 8 kHz, and 0.04 MB for 32 s after it has ended. */
#define PJSUA_MAX_CALLS                     1024
#define PJSUA_MAX_ACC                       64
/* Two slots of the conference bridge per call (stream and FramePort) and some to spare. Every slot allocates two arrays
 * of this length: set medConfig.maxMediaPorts to 2 * calls + 16 at run time. */
#define PJSUA_MAX_CONF_PORTS                2304
#define PJSUA_MAX_PLAYERS                   8
#define PJSUA_MAX_RECORDERS                 8
#define PJSUA_MAX_BUDDIES                   1
#define PJ_IOQUEUE_MAX_HANDLES              8192
/* Level-triggered, without EPOLLEXCLUSIVE: each of the two queues has one thread that polls it, and the exclusive form
 * takes every socket out of the set and puts it back for each packet, which was a quarter of the cost of a call. */
#define PJ_IOQUEUE_DEFAULT_EPOLL_FLAGS      0
/* Sockets served in one poll: the media thread finds the packets of 2 ms at once. */
#define PJ_IOQUEUE_MAX_EVENTS_IN_SINGLE_POLL 64
#define PJSIP_MAX_TSX_COUNT                 65535
#define PJSIP_MAX_DIALOG_COUNT              16383

/* Messages. */
/* The largest UDP datagram: the default of 4000 drops an INVITE with long X- headers without a word. */
#define PJSIP_MAX_PKT_LEN                   65535
/* From, To and Contact longer than this end the INVITE with an error (default 256). */
#define PJSIP_MAX_URL_SIZE                  1024
/* An agent answers on the transport it was called on; a peer that came by UDP rarely listens on TCP, so switching a
 * long re-INVITE over (RFC 3261 18.1.1) only costs a time-out. */
#define PJSIP_DONT_SWITCH_TO_TCP            1
/* Bursts of INVITEs wait in the kernel while one is being served; the kernel caps these at net.core.[rw]mem_max. */
#define PJSIP_UDP_SO_RCVBUF_SIZE            (4 * 1024 * 1024)
#define PJSIP_UDP_SO_SNDBUF_SIZE            (1024 * 1024)
#define PJSIP_TCP_TRANSPORT_BACKLOG         128
#define PJSIP_TLS_TRANSPORT_BACKLOG         128
/* A connection that never sends a SIP message holds a receive buffer: close it after so many seconds. */
#define PJSIP_TRANSPORT_SERVER_IDLE_TIME_FIRST 15
/* Timers (retransmission, transaction end) handled in one poll; the default of 10 means many polls at 600 calls/s. */
#define PJSIP_MAX_TIMED_OUT_ENTRIES         64

/* Media. */
#define PJMEDIA_CONF_USE_SWITCH_BOARD       0
/* Tests compare levels: the bridge must not change them. */
#define PJMEDIA_CONF_USE_AGC                0
/* Version 2.17 counts the a=crypto lines of an offer in an array of 64, but reads up to 68 attributes. */
#define PJMEDIA_MAX_SDP_ATTR                64

/* Left out: what is not there cannot be attacked. */
#define PJMEDIA_HAS_VIDEO                   0
#define PJMEDIA_HAS_LEGACY_SOUND_API        0
#define PJMEDIA_HAS_L16_CODEC               0
#define PJSUA_HAS_DLG_EVENT_PKG             0
#define PJSUA_HAS_SIPREC                    0

#define PJ_HAS_SSL_SOCK                     1
/* TLS 1.0 and 1.1 are deprecated (RFC 8996); the default would have them, and not 1.3. */
#define PJSIP_SSL_DEFAULT_PROTO             (PJ_SSL_SOCK_PROTO_TLS1_2 | PJ_SSL_SOCK_PROTO_TLS1_3)
#define PJ_HAS_IPV6                         1
#define PJ_LOG_MAX_LEVEL                    4
