// gRPC-Java (grpc-netty) over TLS (JDK provider): /shop.v1.Orders/Get gives the request back, Fail says NOT_FOUND.
// Arguments: ADDRESS KEYSTORE DIRECTORY.
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCalls;
import io.netty.handler.ssl.Alpn;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;

public class GrpcApp {
  private static final String SERVICE = "shop.v1.Orders";

  private static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException failure) {
        throw new UncheckedIOException(failure);
      }
    }
  }

  private static MethodDescriptor<byte[], byte[]> describe(String name) {
    return MethodDescriptor.newBuilder(new Bytes(), new Bytes()).setType(MethodDescriptor.MethodType.UNARY)
        .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name)).build();
  }

  public static void main(String[] arguments) throws Exception {
    ServerServiceDefinition orders = ServerServiceDefinition.builder(SERVICE)
        .addMethod(describe("Get"), ServerCalls.asyncUnaryCall((request, answer) -> {
          answer.onNext(request);
          answer.onCompleted();
        }))
        .addMethod(describe("Fail"), ServerCalls.asyncUnaryCall(
            (request, answer) -> answer.onError(Status.NOT_FOUND.asRuntimeException())))
        .build();
    Server server = NettyServerBuilder.forAddress(new InetSocketAddress(arguments[0], 0))
        .sslContext(Alpn.makeContext(Answers.openKeys(arguments[1]), "h2")).addService(orders).build().start();
    Answers.reportReady(server.getPort());
    server.awaitTermination();
  }
}
