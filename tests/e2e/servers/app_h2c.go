// HTTP/2 in the clear over Go's net/http (1.24 or later): /orders/N 200, anything else 404. Arguments: ADDRESS.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

func serve(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	if !strings.HasPrefix(r.URL.Path, "/orders/") {
		w.WriteHeader(404)
	}
	io.WriteString(w, "{}")
}

func main() {
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Args[1], "0"))
	if err != nil {
		panic(err)
	}
	fmt.Printf("{\"event\": \"ready\", \"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: http.HandlerFunc(serve), Protocols: protocols}
	panic(server.Serve(listener))
}
