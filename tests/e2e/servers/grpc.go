// A gRPC service over TLS by grpc-go, and its client: /shop.v1.Orders/Get answers what it was sent, Fail with NOT_FOUND.
//
//	server ADDRESS CERTIFICATE KEY        says {"event": "ready", "port": ..}
//	client ADDRESS:PORT AUTHORITY METHOD CALLS
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// Messages as they are: no code is generated.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "raw" }

func answer(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	if strings.HasSuffix(method, "/Fail") {
		return status.Error(codes.NotFound, "no such order")
	}
	return stream.SendMsg(&message)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func serve(address, certificate, key string) {
	files, err := credentials.NewServerTLSFromFile(certificate, key)
	check(err)
	server := grpc.NewServer(grpc.Creds(files), grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(answer))
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	check(err)
	fmt.Printf("{\"event\": \"ready\", \"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	check(server.Serve(listener))
}

func call(target, authority, method string, calls int) {
	trusted, err := credentials.NewClientTLSFromFile(authority, "")
	check(err)
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(trusted))
	check(err)
	defer channel.Close()
	for number := range calls {
		message, reply := []byte(fmt.Sprint("order ", number)), []byte(nil)
		err := channel.Invoke(context.Background(), "/shop.v1.Orders/"+method, &message, &reply, grpc.ForceCodec(raw{}))
		if code := status.Code(err); code != codes.OK && code != codes.NotFound {
			panic(err)
		}
	}
}

func main() {
	if os.Args[1] == "server" {
		serve(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	calls, err := strconv.Atoi(os.Args[5])
	check(err)
	call(os.Args[2], os.Args[3], os.Args[4], calls)
}
