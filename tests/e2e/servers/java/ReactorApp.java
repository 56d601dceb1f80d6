// The handlers that reactor-netty, the server of Spring WebFlux, has in its pipeline: SslHandler with the JDK's engine, no
// aggregator, bodies piece by piece from another thread, and a channel for each stream of HTTP/2. No package of Debian
// has reactor-netty itself. Arguments: ADDRESS KEYSTORE DIRECTORY.
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.DefaultHttpContent;
import io.netty.handler.codec.http.DefaultHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpObject;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.handler.codec.http2.Http2FrameCodecBuilder;
import io.netty.handler.codec.http2.Http2MultiplexHandler;
import io.netty.handler.codec.http2.Http2StreamFrameToHttpObjectCodec;
import io.netty.handler.ssl.Alpn;
import io.netty.handler.ssl.ApplicationProtocolNames;
import io.netty.handler.ssl.ApplicationProtocolNegotiationHandler;
import io.netty.handler.ssl.SslContext;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public class ReactorApp {
  private static final int PIECE_BYTES = 8;
  private static final ExecutorService PUBLISHER = Executors.newFixedThreadPool(2);

  private static final class App extends SimpleChannelInboundHandler<HttpObject> {
    private final boolean isHttp2;
    private HttpRequest request;

    App(boolean isHttp2) {
      this.isHttp2 = isHttp2;
    }

    @Override
    protected void channelRead0(ChannelHandlerContext context, HttpObject message) {
      if (message instanceof HttpRequest) request = (HttpRequest) message;
      if (!(message instanceof LastHttpContent)) return;
      HttpRequest asked = request;
      PUBLISHER.execute(() -> answer(context, asked));
    }

    private void answer(ChannelHandlerContext context, HttpRequest asked) {
      Answers answer = Answers.find(asked.method().name(), asked.uri());
      HttpResponse response = new DefaultHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.valueOf(answer.status));
      byte[] body = asked.method().name().equals("HEAD") ? null : answer.body;
      // A Flux has no length, a Mono has.
      boolean isFlux = answer.body != null && asked.method().name().equals("GET") && !isHttp2;
      if (isFlux) response.headers().set(HttpHeaderNames.TRANSFER_ENCODING, HttpHeaderValues.CHUNKED);
      else if (answer.body != null) response.headers().setInt(HttpHeaderNames.CONTENT_LENGTH, answer.body.length);
      context.write(response);
      for (int at = 0; body != null && at < body.length; at += PIECE_BYTES) {
        byte[] piece = Arrays.copyOfRange(body, at, Math.min(at + PIECE_BYTES, body.length));
        context.writeAndFlush(new DefaultHttpContent(Unpooled.wrappedBuffer(piece)));
      }
      context.writeAndFlush(LastHttpContent.EMPTY_LAST_CONTENT);
    }
  }

  private static final class Negotiation extends ApplicationProtocolNegotiationHandler {
    Negotiation() {
      super(ApplicationProtocolNames.HTTP_1_1);
    }

    @Override
    protected void configurePipeline(ChannelHandlerContext context, String protocol) {
      ChannelPipeline pipeline = context.pipeline();
      if (!protocol.equals(ApplicationProtocolNames.HTTP_2)) {
        pipeline.addLast(new HttpServerCodec(), new App(false));
        return;
      }
      pipeline.addLast(Http2FrameCodecBuilder.forServer().build(), new Http2MultiplexHandler(new ChannelInitializer<Channel>() {
        @Override
        protected void initChannel(Channel stream) {
          stream.pipeline().addLast(new Http2StreamFrameToHttpObjectCodec(true), new App(true));
        }
      }));
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
