// Calls a server over TLS: `/orders/N` so often, then `/missing/N`, over one connection.
//
// Arguments: 1.1|2 URL AUTHORITY ORDERS MISSING
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	pem, err := os.ReadFile(os.Args[3])
	if err != nil {
		panic(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}, ForceAttemptHTTP2: os.Args[1] == "2"}
	if os.Args[1] != "2" {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	client := &http.Client{Transport: transport}
	for number, path := range []string{"orders", "missing"} {
		count, err := strconv.Atoi(os.Args[4+number])
		if err != nil {
			panic(err)
		}
		for ; count > 0; count-- {
			answer, err := client.Get(fmt.Sprintf("%s/%s/%d", os.Args[2], path, 1000+count))
			if err != nil {
				panic(err)
			}
			if _, err := io.Copy(io.Discard, answer.Body); err != nil {
				panic(err)
			}
			answer.Body.Close()
			fmt.Println(answer.Proto, answer.StatusCode)
		}
	}
}
