// The test application over Go's net/http; see tests/e2e/application.py for what it answers. Arguments: ADDRESS
// [CERTIFICATE KEY]; with these over TLS.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if body != "" {
		io.WriteString(w, body)
	}
}

func serve(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	switch path := r.URL.Path; {
	case path == "/orders" && r.Method == "POST":
		answer(w, 201, `{"number": 1}`)
	case strings.HasPrefix(path, "/orders/") && r.Method == "DELETE":
		answer(w, 204, "")
	case strings.HasPrefix(path, "/orders/"):
		answer(w, 200, `{"state": "sent"}`)
	case strings.HasPrefix(path, "/users/"):
		answer(w, 304, "")
	case path == "/events":
		for _, size := range []int{1, 100, 5000} {
			io.WriteString(w, strings.Repeat("x", size))
			w.(http.Flusher).Flush() // Flushed before its length is known: Go answers in chunks.
		}
	default:
		answer(w, 404, "{}")
	}
}

func main() {
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Args[1], "0"))
	if err != nil {
		panic(err)
	}
	fmt.Printf("{\"event\": \"ready\", \"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	if len(os.Args) > 3 {
		http.ServeTLS(listener, http.HandlerFunc(serve), os.Args[2], os.Args[3])
	}
	http.Serve(listener, http.HandlerFunc(serve))
}
