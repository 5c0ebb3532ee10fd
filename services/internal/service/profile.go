package service

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"
)

// serveProfiles serves the process's profiles on PROFILE_PORT, if it is set, which only this machine can reach.
func (s *Service) serveProfiles() {
	if s.config.ProfilePort == 0 {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	port := strconv.Itoa(s.config.ProfilePort)
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", port), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s.serve("profile port "+port, server.ListenAndServe)
	s.onShutdown("profiles", func(context.Context) error { return server.Close() })
}
