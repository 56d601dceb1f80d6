// Netty 4.1 with HTTP/1.1 and HTTP/2 over TLS (its JDK provider). Arguments: ADDRESS KEYSTORE DIRECTORY.
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http2.DefaultHttp2Connection;
import io.netty.handler.codec.http2.HttpConversionUtil;
import io.netty.handler.codec.http2.HttpToHttp2ConnectionHandlerBuilder;
import io.netty.handler.codec.http2.InboundHttp2ToHttpAdapterBuilder;
import io.netty.handler.ssl.Alpn;
import io.netty.handler.ssl.ApplicationProtocolNames;
import io.netty.handler.ssl.ApplicationProtocolNegotiationHandler;
import io.netty.handler.ssl.SslContext;
import java.net.InetSocketAddress;

public class NettyApp {
  private static final int BODY_BYTES_MAX = 1 << 20;

  private static final class App extends SimpleChannelInboundHandler<FullHttpRequest> {
    @Override
    protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) {
      Answers answer = Answers.find(request.method().name(), request.uri());
      boolean isEmpty = answer.body == null || request.method().name().equals("HEAD");
      FullHttpResponse response = new DefaultFullHttpResponse(
          HttpVersion.HTTP_1_1, HttpResponseStatus.valueOf(answer.status), isEmpty ? Unpooled.EMPTY_BUFFER : Unpooled.wrappedBuffer(answer.body));
      if (answer.body != null) response.headers().setInt(HttpHeaderNames.CONTENT_LENGTH, answer.body.length);
      String stream = request.headers().get(HttpConversionUtil.ExtensionHeaderNames.STREAM_ID.text());
      if (stream != null) response.headers().set(HttpConversionUtil.ExtensionHeaderNames.STREAM_ID.text(), stream);
      context.writeAndFlush(response);
    }
  }

  private static final class Negotiation extends ApplicationProtocolNegotiationHandler {
    Negotiation() {
      super(ApplicationProtocolNames.HTTP_1_1);
    }

    @Override
    protected void configurePipeline(ChannelHandlerContext context, String protocol) {
      ChannelPipeline pipeline = context.pipeline();
      if (protocol.equals(ApplicationProtocolNames.HTTP_2)) {
        DefaultHttp2Connection connection = new DefaultHttp2Connection(true);
        pipeline.addLast(new HttpToHttp2ConnectionHandlerBuilder().connection(connection).frameListener(
            new InboundHttp2ToHttpAdapterBuilder(connection).maxContentLength(BODY_BYTES_MAX).build()).build());
      } else {
        pipeline.addLast(new HttpServerCodec(), new HttpObjectAggregator(BODY_BYTES_MAX));
      }
      pipeline.addLast(new App());
    }
  }

  public static void main(String[] arguments) throws Exception {
    SslContext tls = Alpn.makeContext(
        Answers.openKeys(arguments[1]), ApplicationProtocolNames.HTTP_2, ApplicationProtocolNames.HTTP_1_1);
    ServerBootstrap server = new ServerBootstrap().group(new NioEventLoopGroup(2)).channel(NioServerSocketChannel.class)
        .childHandler(new ChannelInitializer<Channel>() {
          @Override
          protected void initChannel(Channel channel) {
            channel.pipeline().addLast(tls.newHandler(channel.alloc()), new Negotiation());
          }
        });
    Channel listener = server.bind(arguments[0], 0).sync().channel();
    Answers.reportReady(((InetSocketAddress) listener.localAddress()).getPort());
    listener.closeFuture().sync();
  }
}
